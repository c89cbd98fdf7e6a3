package path

// Costs of links: what the owner thinks of sending over them. The cost of a pair is
// that of its links, the peer's included, and that of its way: direct costs less
// than a relay whatever the links, a relay less than a tunnel through TCP. Of the
// pairs that work one of the least cost carries the data.
const (
	// CostPrefer is of links to be used before others.
	CostPrefer uint8 = 0
	// CostNone is of links of which nothing was said.
	CostNone uint8 = 16
	// CostMetered is of links that are paid by volume: not even probed while
	// something cheaper works.
	CostMetered uint8 = 32
	// CostBackup is of links used when nothing else works, and kept proved for that.
	CostBackup uint8 = 48
)

// linkCost is the cost of one of our links.
func (m *Machine) linkCost(l Link) uint8 {
	for i := range m.links {
		if m.links[i] == l {
			return m.costs[i]
		}
	}
	return CostNone
}

// cost is what p costs, less being better.
func (m *Machine) cost(p *pair) int {
	if p.way != wayDirect {
		return p.way.cost() + 2*int(CostNone)
	}
	return int(m.linkCost(p.route.Link)) + int(p.peerCost)
}

// metered reports whether p is paid by volume at either end.
func (m *Machine) metered(p *pair) bool {
	return p.way == wayDirect && (m.linkCost(p.route.Link) == CostMetered || p.peerCost == CostMetered)
}

// costClass is the cost of a link as peers tell it; its values are of the wire
// format.
type costClass uint8

const (
	classNone costClass = iota
	classPrefer
	classMetered
	classBackup
)

// classOf returns the class of a cost, the dearer one of two.
func classOf(cost uint8) costClass {
	switch {
	case cost == CostPrefer:
		return classPrefer
	case cost <= CostNone:
		return classNone
	case cost <= CostMetered:
		return classMetered
	default:
		return classBackup
	}
}

func (c costClass) cost() uint8 {
	switch c {
	case classPrefer:
		return CostPrefer
	case classMetered:
		return CostMetered
	case classBackup:
		return CostBackup
	default:
		return CostNone
	}
}
