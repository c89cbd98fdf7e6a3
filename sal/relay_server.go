package sal

import (
	"context"
	"errors"
	"maps"
	"net/netip"
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
	// maxPendingTells bounds what waits to be told to one node.
	maxPendingTells = 16
	// tellInterval is how often nodes are told of new relays, tellBatch of them at a
	// time.
	tellInterval = time.Second
	tellBatch    = 256
	// fullRetry is when a node that was refused for lack of room may ask again.
	fullRetry = 5 * time.Minute
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
	relays []identity.NodeID         // of them those that are relays themselves, by ID
	own    map[identity.NodeID]*link // where this node is registered itself
	edits  uint64                    // counts changes of both
}

// servedNode is one registration.
type servedNode struct {
	link    *link
	conn    *Conn
	isRelay bool
	told    uint64 // relayServer.edits when it was told of relays last; guarded by relayServer.mu

	mu      sync.Mutex // guards below
	pending []byte     // messages to be written
	count   int        // how many
	writing bool
}

// serve handles one registration for as long as its session lasts.
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
	l.noteRegistration(c.session)
	_ = c.SetReadDeadline(time.Now().Add(registerTimeout))
	m, err := readRelayMessage(c, maxRegisterBody)
	if err != nil || m.Kind != relayRegister {
		r.node.counters.malformed.Add(1)
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	s := &servedNode{link: l, conn: c, isRelay: m.Flags&flagRelay != 0}
	if m.Version != relayVersion1 {
		_ = s.say(relayMessage{Kind: relayRefused, Version: relayVersion1, Reason: relayVersion, After: time.Hour})
		return
	}
	token, err := r.grant(s)
	if err != nil {
		r.node.cfg.Logger.Debug("registration refused", "peer", l.peer.Short(), "err", err)
		_ = s.say(relayMessage{Kind: relayRefused, Version: relayVersion1, Reason: relayFull, After: fullRetry})
		return
	}
	defer r.end(s)
	err = s.say(relayMessage{Kind: relayRegistered, Version: relayVersion1, Token: token, Rate: uint64(max(0, r.node.cfg.Relay.Limits.PerNode))})
	if err != nil {
		return
	}
	for { // nothing more is expected, and what later versions say is skipped
		if _, err := readRelayMessage(c, maxRegisterBody); err != nil {
			return
		}
	}
}

// grant enters a registration. It takes the place of an earlier one of the node.
func (r *relayServer) grant(s *servedNode) (relay.Token, error) {
	r.mu.Lock()
	old := r.served[s.link.peer]
	token, err := s.link.assoc.GrantRelay()
	if err == nil {
		r.served[s.link.peer] = s
		r.noteLocked(s.link.peer, s.isRelay)
	}
	r.mu.Unlock()
	if err == nil && old != nil {
		_ = old.conn.Close()
	}
	return token, err
}

// end takes a registration back whose session has ended.
func (r *relayServer) end(s *servedNode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.served[s.link.peer] != s {
		if now := r.served[s.link.peer]; now == nil || now.link != s.link {
			s.link.assoc.RevokeRelay()
		}
		return
	}
	delete(r.served, s.link.peer)
	s.link.assoc.RevokeRelay()
	r.noteLocked(s.link.peer, false)
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

// unknown tells a node that another it sent to is not registered here. It is called
// by the carrier.
func (r *relayServer) unknown(sender identity.NodeID, destination relay.Prefix) {
	r.mu.Lock()
	s := r.served[sender]
	r.mu.Unlock()
	if s != nil {
		s.tell(relayMessage{Kind: relayUnknown, Peer: destination})
	}
}

// tellRelays tells nodes of other relays whenever there are others, until this node
// is closed.
func (r *relayServer) tellRelays() {
	ticker := time.NewTicker(tellInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.tellSome(r.node.relays.registered())
		case <-r.node.ctx.Done():
			return
		}
	}
}

// tellSome tells the next nodes that have not heard the news. own are the relays at
// which this node is registered itself.
func (r *relayServer) tellSome(own map[identity.NodeID]*link) {
	r.mu.Lock()
	if !maps.EqualFunc(own, r.own, func(a, b *link) bool { return true }) {
		r.own = own
		r.edits++
	}
	var due []*servedNode
	for _, s := range r.served {
		if s.told != r.edits && len(due) < tellBatch {
			s.told = r.edits
			due = append(due, s)
		}
	}
	links := maps.Clone(own)
	for _, id := range r.relays[:min(len(r.relays), 8*maxToldRelays)] {
		links[id] = r.served[id].link
	}
	r.mu.Unlock()
	var known []toldRelay
	for id, l := range links {
		if t, ok := relayAt(id, l); ok {
			known = append(known, t)
		}
	}
	for i, s := range due {
		var list []toldRelay
		for k := range known { // not the same ones to everybody
			if t := known[(i+k)%len(known)]; t.Node != s.link.peer && len(list) < maxToldRelays {
				list = append(list, t)
			}
		}
		if len(list) > 0 {
			s.tell(relayMessage{Kind: relayRelays, Relays: list})
		}
	}
}

// relayAt says where a connected relay is: the address proved to be its own.
func relayAt(id identity.NodeID, l *link) (toldRelay, bool) {
	remote := l.assoc.Info().Remote
	if !remote.IsValid() || path.IsRelayed(remote) {
		return toldRelay{}, false
	}
	return toldRelay{Node: id, Addresses: []netip.AddrPort{remote}}, true
}

// say sends a message and waits until it is on its way.
func (s *servedNode) say(m relayMessage) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(registerTimeout))
	_, err := s.conn.Write(m.Append(nil))
	return err
}

// tell sends a message, or drops it where too many wait. It does not block.
func (s *servedNode) tell(m relayMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count >= maxPendingTells {
		return
	}
	s.pending = m.Append(s.pending)
	s.count++
	if s.writing {
		return
	}
	s.writing = s.link.node.spawn(s.write)
}

// write sends what waits.
func (s *servedNode) write() {
	for {
		s.mu.Lock()
		b := s.pending
		s.pending, s.count = nil, 0
		s.writing = len(b) > 0
		s.mu.Unlock()
		if len(b) == 0 {
			return
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(registerTimeout))
		if _, err := s.conn.Write(b); err != nil && !errors.Is(err, ErrClosed) {
			_ = s.conn.Close() // it does not read: it does not need us
		}
	}
}

// len returns how many nodes are registered.
func (r *relayServer) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.served)
}

// openRelay makes this node take registrations.
func (n *Node) openRelay() error {
	n.relay = &relayServer{node: n, served: make(map[identity.NodeID]*servedNode)}
	return n.services.listen(identity.ServiceOf(n.id), portKey{RelayPort, record.TCP}, n.relay.serve)
}

// relayUnknown is called by the carrier.
func (n *Node) relayUnknown(sender identity.NodeID, destination relay.Prefix) {
	if n.relay != nil {
		n.relay.unknown(sender, destination)
	}
}

// isRegistration reports whether a session is for registering at this relay: who may
// is Config.Admit's business, not the Authorizer's.
func (n *Node) isRegistration(s *session) bool {
	return n.relay != nil && s.info.Service == identity.ServiceOf(n.id) && s.info.Port == RelayPort && s.info.Protocol == record.TCP
}
