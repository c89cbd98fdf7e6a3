package tun

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/packet"
)

// tcpTable knows every TCP flow by the application's tuple and by its made-up peer.
type tcpTable struct {
	limit, limitHeld int // constant

	mu      sync.Mutex // guards below and the flows' changing fields
	byApp   map[tuple]*tcpFlow
	byPeer  [2]map[int]*tcpFlow // IPv4, IPv6
	next    [2]int              // the peer number to try next
	held    int
	closing []*tcpFlow // roughly in the order they began to close
}

func newTCPTable(limit, limitHeld int) *tcpTable {
	return &tcpTable{
		limit: limit, limitHeld: limitHeld,
		byApp:  make(map[tuple]*tcpFlow),
		byPeer: [2]map[int]*tcpFlow{make(map[int]*tcpFlow), make(map[int]*tcpFlow)},
	}
}

func (t *tcpTable) size() (flows, held int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byApp), t.held
}

// fromApp finds the flow of an application's packet that is no first SYN, and notes what
// it says. A nil flow is unknown; pass is false for one that is held. suspect is the
// connection to look at after a reset was passed on.
func (t *tcpTable) fromApp(key tuple, s packet.Segment, now time.Time) (f *tcpFlow, pass bool, suspect *net.TCPConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f = t.byApp[key]
	if f == nil {
		return nil, false, nil
	}
	if s.Flags&packet.RST != 0 {
		switch f.state {
		case flowHeld, flowPassed:
			f.reset = true
			f.cancel()
		case flowOpen:
			suspect = f.conn
		case flowClosing:
			f.reset = true
			f.expires = now.Add(f.lingerFor())
		case flowGone:
		}
	}
	nearer := f.fromApp.sent(&s)
	if f.fromUs.heard(&s) || nearer {
		f.restart(now)
	}
	return f, f.state != flowHeld, suspect
}

// fromListener finds the flow of a packet our listener's kernel sent.
func (t *tcpTable) fromListener(fam *family, peer netip.AddrPort, s packet.Segment, now time.Time) *tcpFlow {
	n, ok := fam.peerNumber(peer)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.byPeer[index(fam)][n]
	if f == nil {
		return nil
	}
	if s.Flags&packet.RST != 0 {
		f.reset = true
		f.restart(now)
	}
	nearer := f.fromUs.sent(&s)
	if f.fromApp.heard(&s) || nearer {
		f.restart(now)
	}
	return f
}

// restart sets a closing flow's time anew.
func (f *tcpFlow) restart(now time.Time) {
	if f.state == flowClosing {
		f.expires = now.Add(f.lingerFor())
	}
}

// again handles a SYN of a known tuple: same is true for the same SYN sent again, which
// is absorbed (a nil flow) or to be passed on. Otherwise the old flow is out of the way,
// unless it is held: then the newer SYN takes the older one's place.
func (t *tcpTable) again(key tuple, syn []byte, isn uint32) (f *tcpFlow, same bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f = t.byApp[key]
	switch {
	case f == nil:
		return nil, false
	case f.state == flowHeld:
		if f.isn != isn {
			f.isn, f.syn = isn, slices.Clone(syn)
		}
		return nil, true
	case f.isn == isn && f.state != flowClosing:
		return f, true
	}
	// The application's kernel began a new connection: it knows the old one is over.
	f.cancel()
	t.remove(f)
	return nil, false
}

// add makes a flow for a first SYN. It returns nil when a bound is reached.
func (t *tcpTable) add(ctx context.Context, fam *family, h *packet.Header, syn []byte, service identity.ServiceID, device netip.Addr, hold bool) *tcpFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	if hold && t.held >= t.limitHeld || len(t.byApp) >= t.limit && !t.evict() {
		return nil
	}
	which := index(fam)
	number := t.next[which]
	for t.byPeer[which][number] != nil {
		number = (number + 1) % (peers * peerPorts)
	}
	// Numbers go round, so that one comes again as late as can be: its last connection
	// may still be in TIME_WAIT.
	t.next[which] = (number + 1) % (peers * peerPorts)
	f := &tcpFlow{
		key: tupleOf(h.Source(), h.Destination()), service: service, port: h.DstPort, family: fam, device: device,
		app: h.Source(), virtual: h.Destination(), number: number, isn: h.Segment(syn).Seq,
		accepted: make(chan *net.TCPConn, 1), state: flowPassed,
	}
	peer := fam.peer(number)
	f.forward = packet.NewTurn(f.app, f.virtual, peer, fam.listening())
	f.back = packet.NewTurn(fam.listening(), peer, f.virtual, f.app)
	f.ctx, f.cancel = context.WithCancel(ctx)
	if hold {
		f.state = flowHeld
		f.syn = slices.Clone(syn[:h.Length])
		t.held++
	}
	t.byApp[f.key] = f
	t.byPeer[which][number] = f
	return f
}

// release takes the held SYN of a flow whose dial was answered. It returns nil when the
// flow was replaced or given up meanwhile.
func (t *tcpTable) release(f *tcpFlow) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.state != flowHeld {
		return nil
	}
	syn := f.syn
	f.syn = nil
	t.held--
	f.state = flowPassed
	return syn
}

// refuse removes a held flow and returns its SYN, to be answered; nil when nobody waits
// for the answer any more.
func (t *tcpTable) refuse(f *tcpFlow) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.state != flowHeld {
		return nil
	}
	syn := f.syn
	t.remove(f)
	if f.reset {
		return nil
	}
	return syn
}

// accept hands a connection of our listener to its flow. It is false for one that has
// none, or has its connection already.
func (t *tcpTable) accept(fam *family, peer netip.AddrPort, c *net.TCPConn) bool {
	n, ok := fam.peerNumber(peer)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.byPeer[index(fam)][n]
	if f == nil || f.state != flowPassed {
		return false
	}
	f.state = flowOpen
	f.conn = c
	f.accepted <- c
	return true
}

// finish begins a flow's closing, after which its goroutine is gone. It returns a
// connection that nobody came for.
func (t *tcpTable) finish(f *tcpFlow, now time.Time) (orphan *net.TCPConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.cancel()
	f.conn = nil
	select {
	case orphan = <-f.accepted:
	default:
	}
	if f.state == flowGone {
		return orphan
	}
	if f.state == flowHeld {
		t.remove(f)
		return orphan
	}
	f.state = flowClosing
	f.expires = now.Add(f.lingerFor())
	t.closing = append(t.closing, f)
	return orphan
}

// sweep removes closing flows that have lingered, and appends the services of all others
// to live.
func (t *tcpTable) sweep(now time.Time, live map[identity.ServiceID]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = slices.DeleteFunc(t.closing, func(f *tcpFlow) bool {
		if f.state == flowClosing && now.Before(f.expires) {
			return false
		}
		t.remove(f)
		return true
	})
	if live == nil {
		return
	}
	for _, f := range t.byApp {
		if f.state == flowOpen {
			live[f.service] = struct{}{}
		}
	}
}

// evict makes room by forgetting the flow that has been closing for longest.
func (t *tcpTable) evict() bool {
	for i, f := range t.closing {
		if f.state == flowClosing {
			t.remove(f)
			t.closing = t.closing[i+1:]
			return true
		}
	}
	t.closing = nil
	return false
}

// remove forgets a flow. The caller holds mu.
func (t *tcpTable) remove(f *tcpFlow) {
	if f.state == flowGone {
		return
	}
	if f.state == flowHeld {
		t.held--
	}
	f.state = flowGone
	f.syn = nil
	if t.byApp[f.key] == f {
		delete(t.byApp, f.key)
	}
	delete(t.byPeer[index(f.family)], f.number)
}

func index(f *family) int {
	if f.is6 {
		return 1
	}
	return 0
}
