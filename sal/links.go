package sal

import "scn.alt/scn/sal/underlay"

// LinkPolicy says what an interface may be used for.
type LinkPolicy = underlay.LinkPolicy

// LinkInfo says what an interface is used for.
type LinkInfo = underlay.LinkInfo

// linkCarrier is a carrier that knows this host's interfaces; that of tests does not.
type linkCarrier interface {
	links() ([]LinkInfo, error)
	setLinkPolicy(func(interfaceName string) LinkPolicy)
	setDuplicate(on bool)
}

// Links returns every interface of this host and what the sessions use it for.
func (n *Node) Links() ([]LinkInfo, error) {
	if c, ok := n.carrier.(linkCarrier); ok {
		return c.links()
	}
	return nil, nil
}

// SetLinkPolicy replaces Config.LinkPolicy. Sessions over links that are now off move
// at once.
func (n *Node) SetLinkPolicy(policy func(interfaceName string) LinkPolicy) {
	if c, ok := n.carrier.(linkCarrier); ok {
		c.setLinkPolicy(policy)
	}
}

// SetDuplicate replaces Config.Duplicate.
func (n *Node) SetDuplicate(on bool) {
	if c, ok := n.carrier.(linkCarrier); ok {
		c.setDuplicate(on)
	}
}

var _ linkCarrier = underlayCarrier{}

func (c underlayCarrier) links() ([]LinkInfo, error) { return c.socket.Links() }

func (c underlayCarrier) setLinkPolicy(policy func(string) LinkPolicy) {
	c.socket.SetLinkPolicy(policy)
}

func (c underlayCarrier) setDuplicate(on bool) { c.socket.SetDuplicate(on) }
