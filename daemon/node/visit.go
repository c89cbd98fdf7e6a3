package node

import (
	"context"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

// maxAnchors is how many nodes are known to be good at a time.
const maxAnchors = 6

// visits lets an inspector make sessions as every client of this node does. They leave
// from this node itself, as no node carries others' sessions: a provider sees its ID
// and its address, as it sees those of all clients. Where the service is priced it is
// paid as always, from an account and with a session key that the purse made for this
// provider alone.
type visits struct{ n *Node }

var (
	_ proofofservice.Dialer  = visits{}
	_ proofofservice.Anchors = visits{}
	_ proofofservice.Session = (*visit)(nil)
)

// Dial implements proofofservice.Dialer.
func (v visits) Dial(ctx context.Context, t proofofservice.Target) (proofofservice.Session, error) {
	if t.Node == v.n.ID() {
		return nil, fmt.Errorf("%w: the provider is this node itself", proofofservice.ErrCarrier)
	}
	s := &visit{n: v.n, target: t}
	held, paid := v.channel(t)
	if s.asked = &held.Channel.Ask.Price; !paid {
		s.asked = v.asked(ctx, t)
	}
	c, err := v.n.sal.DialAt(ctx, record.Candidate{Node: t.Node}, t.Service, t.Port, t.Nonce)
	if err != nil {
		return nil, s.trouble(err)
	}
	s.Conn = c
	return s, nil
}

// asked is what the ledger says that a provider asks now.
func (v visits) asked(ctx context.Context, t proofofservice.Target) *voucher.Price {
	asks := v.n.pay.market.Known(t.Service)
	if asks == nil {
		var err error
		if asks, err = v.n.pay.market.Fetch(ctx, t.Service); err != nil {
			return nil // that the ledger is away is no fault of the provider's
		}
	}
	for _, a := range asks {
		if a.Node == t.Node {
			return &a.Price
		}
	}
	return &voucher.Price{}
}

// channel is what the provider was paid by last.
func (v visits) channel(t proofofservice.Target) (meter.Spent, bool) {
	for _, s := range v.n.meter.Spent() {
		if s.Peer == t.Node && s.Channel.Ask.Service == t.Service {
			return s, true
		}
	}
	return meter.Spent{}, false
}

// Nodes implements proofofservice.Anchors: the nodes that let others into the network,
// this node's home relays, and those with whom there are sessions.
func (v visits) Nodes() []identity.NodeID {
	seen := map[identity.NodeID]bool{v.n.ID(): true}
	var out []identity.NodeID
	add := func(id identity.NodeID) {
		if !seen[id] && len(out) < maxAnchors {
			seen[id] = true
			out = append(out, id)
		}
	}
	for _, c := range v.n.bootstrapRelays() {
		add(c.Node)
	}
	for _, r := range v.n.sal.Relays() {
		if r.Home {
			add(r.Node)
		}
	}
	for _, p := range v.n.sal.Peers() {
		add(p.Node)
	}
	return out
}

// Reach implements proofofservice.Anchors.
func (v visits) Reach(ctx context.Context, node identity.NodeID) error {
	c := record.Candidate{Node: node}
	for _, b := range v.n.bootstrapRelays() {
		if b.Node == node {
			c = b
		}
	}
	_, err := v.n.sal.PingAt(ctx, c, identity.ServiceOf(node))
	return err
}

// visit is one session of an inspector.
type visit struct {
	*sal.Conn
	n      *Node
	target proofofservice.Target
	asked  *voucher.Price // nil: not known
}

// Read implements net.Conn.
func (s *visit) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	return n, s.trouble(err)
}

// Write implements net.Conn.
func (s *visit) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	return n, s.trouble(err)
}

// trouble tells errors of this node's own purse from the provider's: what the settings
// forbid, or what cannot be paid while the ledger is away. A provider that demands more
// than the ledger says it asks does so at its own risk.
func (s *visit) trouble(err error) error {
	switch {
	case errors.Is(err, meter.ErrBudget), errors.Is(err, meter.ErrLedgerUnreachable):
	case errors.Is(err, meter.ErrPrice) && (s.asked == nil || s.forbidden()):
	default:
		return err
	}
	return fmt.Errorf("%w: %w", proofofservice.ErrFunds, err)
}

// forbidden reports whether the settings forbid what the ledger says is asked.
func (s *visit) forbidden() bool {
	return s.n.pay.purse.Judge(voucher.Ask{Service: s.target.Service, Node: s.target.Node, Price: *s.asked}) != nil
}

// Receipt implements proofofservice.Session.
func (s *visit) Receipt(ctx context.Context) (voucher.Receipt, error) {
	err := s.Close() // the provider's last receipt comes when both ends have closed
	r, missing := s.n.meter.Receipts().Await(ctx, s.Nonce())
	if r != (voucher.Receipt{}) {
		return r, nil
	}
	return r, errors.Join(err, missing)
}

// Bill implements proofofservice.Session. All sessions with a provider for a service
// are paid on one channel, so the bill is that of the channel.
func (s *visit) Bill() proofofservice.Bill {
	paid, priced := visits{s.n}.channel(s.target)
	b := proofofservice.Bill{Demanded: paid.Channel.Ask.Price, Paid: paid.Voucher.Amount, Bytes: paid.Voucher.Bytes, Milliseconds: paid.Voucher.Milliseconds}
	if b.Asked = b.Demanded; s.asked != nil && priced {
		b.Asked = *s.asked
	}
	return b
}
