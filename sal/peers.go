package sal

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

const (
	// maxLinksPerPeer bounds the connections of one peer: one in use, one taking
	// over, and what a peer that restarts quickly leaves behind.
	maxLinksPerPeer = 4
	// deadFor is how long a node that could not be reached is tried last.
	deadFor = 30 * time.Second
	// suspectFor is the same for a node that merely fell silent.
	suspectFor = 10 * time.Second
	// lookAgain is after how long a handshake without answer asks where the node
	// is now: the addresses it began with may be old.
	lookAgain = 300 * time.Millisecond
)

var errTooManyPeers = errors.New("sal: too many connections")

// peer is what this node knows of another. Guarded by Node.mu.
type peer struct {
	links   []*link // oldest first
	dial    *dialOp // in progress, or nil
	suspect time.Time
	rtt     time.Duration
	where   whereabouts
}

// dialOp is a connection in the making, shared by all who want one.
type dialOp struct {
	done   chan struct{} // closed when link or err is set
	cancel context.CancelFunc
	assoc  association // guarded by Node.mu
	over   bool        // done is closed; guarded by Node.mu
	link   *link
	err    error
}

func (op *dialOp) finishLocked(l *link, err error) {
	if !op.over {
		op.over, op.link, op.err = true, l, err
		close(op.done)
	}
}

// peerLocked returns the entry of a node, made if need be.
func (n *Node) peerLocked(id identity.NodeID) *peer {
	p := n.peers[id]
	if p == nil {
		p = &peer{}
		n.peers[id] = p
	}
	return p
}

// current returns the link that new sessions go to, or nil.
func (p *peer) current() *link {
	for i := len(p.links) - 1; i >= 0; i-- {
		if p.links[i].usable() {
			return p.links[i]
		}
	}
	return nil
}

// settleLocked keeps one link of a peer and retires the others: the newest of
// those dialled by the lower node ID, or else the newest. Both ends thus keep the
// same one, and sessions on the others end in their own time.
func (n *Node) settleLocked(id identity.NodeID, p *peer) {
	byLower := func(l *link) bool { return l.initiator == (n.id.Compare(id) < 0) }
	var best *link
	for _, l := range p.links {
		if l.ctx.Err() == nil && (best == nil || byLower(l) || !byLower(best)) {
			best = l
		}
	}
	for _, l := range p.links {
		if l != best {
			l.retire()
		}
	}
	if best != nil {
		best.revive()
	}
}

// startLink gives a link its keys and its place among the peer's, and runs it.
func (n *Node) startLink(l *link) error {
	fail := func(code quic.ApplicationErrorCode, err error) error {
		_ = l.quic.CloseWithError(code, "")
		l.anchor.release()
		return err
	}
	if err := l.bind(); err != nil {
		return fail(closeProtocol, err)
	}
	n.mu.Lock()
	switch {
	case n.closed:
		n.mu.Unlock()
		return fail(closeShutdown, ErrClosed)
	case len(n.links) >= n.cfg.MaxPeers:
		n.mu.Unlock()
		return fail(closeOverCapacity, errTooManyPeers)
	}
	p := n.peerLocked(l.peer)
	p.links = append(p.links, l)
	n.links[l] = struct{}{}
	p.suspect = time.Time{}
	n.settleLocked(l.peer, p)
	var surplus *link
	if len(p.links) > maxLinksPerPeer {
		surplus = p.links[0]
	}
	if op := p.dial; op != nil {
		if best := p.current(); best != nil {
			op.finishLocked(best, nil)
		}
		if !l.initiator && l.peer.Compare(n.id) < 0 {
			op.cancel() // the peer's connection is the one both will keep
		}
	}
	n.wg.Go(l.run)
	n.mu.Unlock()
	n.counters.connections.Add(1)
	n.cfg.Logger.Debug("connected", "peer", l.peer.Short(), "dialled", l.initiator)
	if surplus != nil {
		surplus.close(closeRetired)
	}
	return nil
}

// dropLink forgets a link that has ended.
func (n *Node) dropLink(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l)
	p := n.peers[l.peer]
	if p == nil {
		return
	}
	if rtt := l.quic.ConnectionStats().SmoothedRTT; rtt > 0 {
		p.rtt = rtt
	}
	p.links = slices.DeleteFunc(p.links, func(x *link) bool { return x == l })
	n.settleLocked(l.peer, p)
}

// helloLife is how long a peer has for its hello before a link without one counts
// as older than any link that has one.
const helloLife = 3 * time.Second

// endStale closes the links of earlier lives of a peer, which need not wait for a
// stateless reset: a newer link's hello named another instance.
func (n *Node) endStale(id identity.NodeID, now time.Time) {
	n.mu.Lock()
	var stale []*link
	if p := n.peers[id]; p != nil {
		var instance [16]byte
		var since time.Time // of the newest link that said hello
		for _, l := range p.links {
			if i, known := l.helloInstance(); known && l.opened.After(since) {
				instance, since = i, l.opened
			}
		}
		for _, l := range p.links {
			i, known := l.helloInstance()
			if l.opened.Before(since) && (known && i != instance || !known && now.Sub(l.opened) > helloLife) {
				stale = append(stale, l)
			}
		}
	}
	n.mu.Unlock()
	for _, l := range stale {
		n.counters.restarts.Add(1)
		l.close(closeRestarted) // dropLink then revives the newer one if it was retired
	}
}

// connect returns a running connection to a node, or makes one. The making goes
// on when ctx ends: the next session will want it.
func (n *Node) connect(ctx context.Context, c record.Candidate) (*link, error) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, ErrClosed
	}
	p := n.peerLocked(c.Node)
	if l := p.current(); l != nil {
		n.mu.Unlock()
		return l, nil
	}
	op := p.dial
	if op == nil || op.over {
		dialCtx, cancel := context.WithTimeout(n.ctx, n.cfg.HandshakeTimeout)
		op = &dialOp{done: make(chan struct{}), cancel: cancel}
		p.dial = op
		n.wg.Go(func() { n.runDial(dialCtx, op, c) })
	}
	n.mu.Unlock()
	select {
	case <-op.done:
		return op.link, op.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// runDial makes one connection.
func (n *Node) runDial(ctx context.Context, op *dialOp, c record.Candidate) {
	defer op.cancel()
	l, err := n.dialLink(ctx, op, c)
	if err == nil {
		err = n.startLink(l)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peerLocked(c.Node)
	if p.dial == op {
		p.dial = nil
	}
	op.assoc = nil
	if op.over { // somebody else's connection was as good
		return
	}
	if err != nil {
		n.counters.dialFailures.Add(1)
		n.cfg.Logger.Debug("connection failed", "peer", c.Node.Short(), "err", err)
		if !errors.Is(err, ErrClosed) {
			p.suspect = time.Now().Add(deadFor)
		}
		op.finishLocked(nil, err)
		return
	}
	op.finishLocked(l, nil)
}

// dialLink does the handshake with one node.
func (n *Node) dialLink(ctx context.Context, op *dialOp, c record.Candidate) (*link, error) {
	if c.Node == n.id {
		return nil, ErrUnreachable
	}
	if err := n.cfg.Admit(c.Node); err != nil {
		return nil, ErrNotAdmitted
	}
	locators := n.firstRemotes(ctx, c)
	if len(locators) == 0 {
		return nil, ErrUnreachable
	}
	timer := time.AfterFunc(lookAgain, func() { n.resolvePeer(c.Node) })
	defer timer.Stop()
	defer n.unrefute(c.Node)
	for {
		l, answered, err := n.handshake(ctx, op, c.Node, locators)
		if err == nil {
			return l, nil
		}
		// Somebody else may have an address the node once had, or has in another
		// private network, and be the first to answer.
		if !n.refute(c.Node, answered) || ctx.Err() != nil {
			return nil, err
		}
		if locators = n.awaitRemotes(ctx, c.Node); len(locators) == 0 {
			return nil, err
		}
	}
}

// handshake does one handshake. When it fails, answered is the address of whoever
// took part in it, if anybody did.
func (n *Node) handshake(ctx context.Context, op *dialOp, id identity.NodeID, locators []netip.AddrPort) (l *link, answered netip.AddrPort, err error) {
	assoc, err := n.carrier.dial(id, locators)
	if err != nil {
		return nil, answered, errors.Join(ErrUnreachable, err)
	}
	n.mu.Lock()
	op.assoc = assoc
	n.peerLocked(id).where.pushed = locators
	n.mu.Unlock()
	n.pushRemotes(id) // a relay may have become a way meanwhile
	conn, err := n.transport.Dial(ctx, assoc.Addr(), dialTLS(n.tls, id), n.quic)
	if err != nil {
		answered = assoc.Info().Remote
		_ = assoc.Close()
		if ctx.Err() != nil && n.ctx.Err() == nil {
			return nil, answered, ErrUnreachable
		}
		return nil, answered, linkError(err, false)
	}
	return newLink(n, id, true, conn, assoc), answered, nil
}

// suspectPeer makes a node be tried last for a while.
func (n *Node) suspectPeer(id identity.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peerLocked(id).suspect = time.Now().Add(suspectFor)
}

// trustPeer ends that.
func (n *Node) trustPeer(id identity.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[id]; p != nil {
		p.suspect = time.Time{}
	}
}

// pathDead is called by the carrier for a peer without any path for too long.
func (n *Node) pathDead(a association) {
	for _, l := range n.allLinks() {
		if l.assoc == a {
			n.spawn(func() { l.close(closeDead) })
			return
		}
	}
	n.spawn(func() { // what a registration left
		n.relays.dead(a)
		if n.relay != nil {
			n.relay.endIf(func(s *servedNode) bool { return s.anchor.assoc == a })
		}
	})
}

func (n *Node) allLinks() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*link, 0, len(n.links))
	for l := range n.links {
		all = append(all, l)
	}
	return all
}

// heldBytes is the budget's walk.
func (n *Node) heldBytes() (sum int64) {
	for _, l := range n.allLinks() {
		sum += l.heldBytes()
	}
	return sum + n.loops.heldBytes()
}

// janitor closes idle links and forgets peers.
func (n *Node) janitor() {
	interval := max(min(time.Second, n.cfg.IdleTimeout/4, n.cfg.drainGrace/2), 10*time.Millisecond)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case now := <-ticker.C:
			for _, l := range n.allLinks() {
				l.expire(now)
			}
			n.mu.Lock()
			var several []identity.NodeID
			for id, p := range n.peers {
				if len(p.links) > 1 {
					several = append(several, id)
				}
				if len(p.links) == 0 && p.dial == nil && now.After(p.suspect) {
					delete(n.peers, id)
				}
			}
			n.mu.Unlock()
			for _, id := range several {
				n.endStale(id, now)
			}
		}
	}
}
