package sal

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// RelayPort is the port of a node's own service at which it registers others, if it
// is a relay.
const RelayPort = 2

const (
	// relayVersion1 is what this package speaks.
	relayVersion1 = 1
	// registerTimeout is how long a node may take to say what it wants.
	registerTimeout = 10 * time.Second
	// maxRegisterBody bounds what a node may say at once: all there is takes two
	// bytes.
	maxRegisterBody = 64
	// tellInterval is how often nodes are told of new relays, tellBatch of them at a
	// time.
	tellInterval = time.Second
	tellBatch    = 256
	// fullRetry is when a node that was refused for lack of room may ask again.
	fullRetry = 5 * time.Minute
	// parkSoon is how long a connection with nothing but a registration stays where
	// there are more than manyRegistrations; elsewhere as long as an idle one.
	parkSoon          = 3 * time.Second
	manyRegistrations = 256
	// goneAfter is how long a node whose connection is parked may be silent. It sends
	// to itself every few seconds.
	goneAfter = 3 * time.Minute
	// sweepInterval is how often those are looked for.
	sweepInterval = 15 * time.Second
	// giveBackAfter is how many connections are parked before the memory they leave is
	// given back: 100 kB each, which nothing else makes the runtime collect for two
	// minutes on a relay whose nodes have nothing to say.
	giveBackAfter = 256
)

// RelayConfig makes a node a relay: it forwards datagrams, which it can neither read
// nor forge, between nodes that have registered with it.
type RelayConfig struct {
	// Limits bound what is forwarded and for how many.
	Limits relay.Limits
}

// relayServer registers nodes at this relay.
type relayServer struct {
	node *Node

	mu     sync.Mutex // guards below
	served map[identity.NodeID]*servedNode
	relays []identity.NodeID           // of them those that are relays themselves
	own    map[identity.NodeID]*anchor // where this node is registered itself
	edits  uint64                      // counts changes of both
	parks  int                         // connections parked since memory was given back
}

// servedNode is one registration. It begins with a session, and ends with it unless
// the connection is parked: then only the association remains.
type servedNode struct {
	anchor  *anchor // constant
	isRelay bool    // constant

	// Guarded by relayServer.mu.
	conn *Conn // nil once the connection is parked
	over bool
	told uint64 // relayServer.edits when it was told of relays last
}

// serve handles the session of one registration.
func (r *relayServer) serve(_ context.Context, in *Incoming) {
	l := in.session.link
	if l == nil {
		in.Reject(nil) // with oneself there is nothing to relay
		return
	}
	c, err := in.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	l.noteRegistration(c.session, true)
	_ = c.SetReadDeadline(time.Now().Add(registerTimeout))
	m, err := readRelayMessage(c, maxRegisterBody)
	if err != nil || m.Kind != relayRegister {
		r.node.counters.malformed.Add(1)
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	if m.Version != relayVersion1 {
		_ = say(c, relayMessage{Kind: relayRefused, Version: relayVersion1, Reason: relayVersion, After: time.Hour})
		return
	}
	s := &servedNode{anchor: l.anchor, isRelay: m.Flags&flagRelay != 0, conn: c}
	token, err := r.grant(s)
	if err != nil {
		r.node.cfg.Logger.Debug("registration refused", "peer", l.peer.Short(), "err", err)
		_ = say(c, relayMessage{Kind: relayRefused, Version: relayVersion1, Reason: relayFull, After: fullRetry})
		return
	}
	err = say(c, relayMessage{Kind: relayRegistered, Version: relayVersion1, Token: token, Rate: uint64(max(0, r.node.cfg.Relay.Limits.PerNode))})
	for err == nil { // nothing more is expected, and what later versions say is skipped
		_, err = readRelayMessage(c, maxRegisterBody)
	}
	if errors.Is(err, ErrLost) {
		<-l.ctx.Done() // the session learns of it first
	}
	if !l.parked() || !r.park(s) {
		r.end(s)
	}
}

// say sends a message and waits until it is on its way.
func say(c *Conn, m relayMessage) error {
	_ = c.SetWriteDeadline(time.Now().Add(registerTimeout))
	_, err := c.Write(m.Append(nil))
	return err
}

// grant enters a registration. It takes the place of an earlier one of the node.
func (r *relayServer) grant(s *servedNode) (relay.Token, error) {
	peer := s.anchor.peer
	r.mu.Lock()
	old := r.served[peer]
	token, err := s.anchor.assoc.GrantRelay()
	if err != nil {
		r.mu.Unlock()
		return token, err
	}
	s.anchor.hold()
	r.served[peer] = s
	r.noteLocked(peer, s.isRelay)
	var conn *Conn
	if old != nil {
		conn = old.conn
	}
	r.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // serve calls end
	} else if old != nil {
		r.end(old)
	}
	return token, nil
}

// park keeps a registration although its session has ended. It reports false if
// another has taken its place.
func (r *relayServer) park(s *servedNode) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.conn = nil
	r.parks++
	return r.served[s.anchor.peer] == s
}

// end takes a registration back.
func (r *relayServer) end(s *servedNode) {
	peer := s.anchor.peer
	r.mu.Lock()
	if s.over {
		r.mu.Unlock()
		return
	}
	s.over = true
	now := r.served[peer]
	if now == s {
		delete(r.served, peer)
		r.noteLocked(peer, false)
	}
	if now == s || now == nil || now.anchor != s.anchor {
		s.anchor.assoc.RevokeRelay()
	}
	r.mu.Unlock()
	s.anchor.release()
}

// endIf takes those registrations back for which over says so.
func (r *relayServer) endIf(over func(*servedNode) bool) {
	r.mu.Lock()
	var parked []*servedNode
	var conns []*Conn
	for _, s := range r.served {
		switch {
		case !over(s):
		case s.conn != nil:
			conns = append(conns, s.conn)
		default:
			parked = append(parked, s)
		}
	}
	r.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	for _, s := range parked {
		r.end(s)
	}
}

// sweep takes the registrations back of nodes that fell silent.
func (r *relayServer) sweep(now time.Time) {
	r.endIf(func(s *servedNode) bool {
		if s.conn != nil {
			return false
		}
		info := s.anchor.assoc.Info()
		return now.Sub(info.LastReceived) > goneAfter && now.Sub(info.LastAsked) > goneAfter
	})
}

// giveBack returns what parked connections left to the operating system, if it is much.
func (r *relayServer) giveBack() {
	r.mu.Lock()
	due := r.parks >= giveBackAfter
	if due {
		r.parks = 0
	}
	r.mu.Unlock()
	if due {
		debug.FreeOSMemory()
	}
}

// noteLocked notes whether a registered node is a relay.
func (r *relayServer) noteLocked(id identity.NodeID, isRelay bool) {
	if slices.Contains(r.relays, id) == isRelay {
		return
	}
	if isRelay {
		r.relays = append(r.relays, id)
	} else {
		r.relays = slices.DeleteFunc(r.relays, func(n identity.NodeID) bool { return n == id })
	}
	r.edits++
}

// loop tells nodes of other relays whenever there are others, and looks for those that
// are gone, until this node is closed.
func (r *relayServer) loop() {
	tell, sweep := time.NewTicker(tellInterval), time.NewTicker(sweepInterval)
	defer tell.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-tell.C:
			r.tellSome(r.node.relays.registered())
		case now := <-sweep.C:
			r.sweep(now)
			r.giveBack()
		case <-r.node.ctx.Done():
			return
		}
	}
}

// tellSome tells the next nodes that have not heard the news, of those that still have
// a session. own are the relays at which this node is registered itself.
func (r *relayServer) tellSome(own map[identity.NodeID]*anchor) {
	r.mu.Lock()
	if !maps.EqualFunc(own, r.own, func(a, b *anchor) bool { return true }) {
		r.own = own
		r.edits++
	}
	due := make(map[identity.NodeID]*Conn)
	for id, s := range r.served {
		if s.conn != nil && s.told != r.edits && len(due) < tellBatch {
			s.told = r.edits
			due[id] = s.conn
		}
	}
	all := maps.Clone(own)
	for _, id := range r.relays[:min(len(r.relays), 8*maxToldRelays)] {
		all[id] = r.served[id].anchor
	}
	r.mu.Unlock()
	if len(due) == 0 {
		return
	}
	var known []toldRelay
	for id, a := range all {
		if t, ok := relayAt(id, a.assoc); ok {
			known = append(known, t)
		}
	}
	i := 0
	for id, c := range due {
		i++
		var list []toldRelay
		for k := range known { // not the same ones to everybody
			if t := known[(i+k)%len(known)]; t.Node != id && len(list) < maxToldRelays {
				list = append(list, t)
			}
		}
		if len(list) > 0 {
			r.node.spawn(func() {
				if say(c, relayMessage{Kind: relayRelays, Relays: list}) != nil {
					_ = c.Close() // it does not read: it does not need us
				}
			})
		}
	}
}

// relayAt says where a connected relay is: the address proved to be its own.
func relayAt(id identity.NodeID, a association) (toldRelay, bool) {
	remote := a.Info().Remote
	if !remote.IsValid() || path.IsRelayed(remote) {
		return toldRelay{}, false
	}
	return toldRelay{Node: id, Addresses: []netip.AddrPort{remote}}, true
}

// isBusy reports whether there are so many registrations that their connections must
// be parked soon.
func (r *relayServer) isBusy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.served) > manyRegistrations
}

// len returns how many nodes are registered, and how many of them without a
// connection.
func (r *relayServer) len() (registered, parked int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.served {
		if s.conn == nil {
			parked++
		}
	}
	return len(r.served), parked
}

// openRelay makes this node take registrations.
func (n *Node) openRelay() error {
	n.relay = &relayServer{node: n, served: make(map[identity.NodeID]*servedNode)}
	return n.services.listen(identity.ServiceOf(n.id), portKey{RelayPort, record.TCP}, n.relay.serve)
}

// parkAfter is how long a connection that only a registration needs stays.
func (n *Node) parkAfter() time.Duration {
	if n.cfg.parkAfter != 0 {
		return n.cfg.parkAfter
	}
	if n.relay != nil && n.relay.isBusy() {
		return min(parkSoon, n.cfg.IdleTimeout)
	}
	return n.cfg.IdleTimeout
}

// isRegistration reports whether a session is for registering at this relay: who may
// is Config.Admit's business, not the Authorizer's.
func (n *Node) isRegistration(s *session) bool {
	return n.relay != nil && s.info.Service == identity.ServiceOf(n.id) && s.info.Port == RelayPort && s.info.Protocol == record.TCP
}
