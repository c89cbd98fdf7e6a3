package sal

import (
	"context"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Served is a session that a peer has open at this node.
type Served struct {
	Peer     identity.NodeID
	Service  identity.ServiceID
	Port     uint16
	Protocol record.Protocol
	// Hello is what the peer said of itself, its Config.Hello; nil until it came.
	Hello []byte
}

// EndServed asks judge about every session that peers have open at this node, and
// ends those it returns an error for: both ends then get the error that corresponds
// to it, as after Incoming.Reject. It returns how many were ended. Sessions not yet
// accepted are not among them: whoever accepts one judges it again afterwards, with
// Incoming.Served and End. judge must not block; sessions of this node with itself are let be.
func (n *Node) EndServed(judge func(Served) error) int {
	ended := 0
	for _, l := range n.allLinks() {
		for _, s := range l.served() {
			if err := judge(s.asServed()); err != nil && s.end(err) {
				ended++
			}
		}
	}
	return ended
}

func (s *session) asServed() Served {
	v := Served{Peer: s.info.Peer, Service: s.info.Service, Port: s.info.Port, Protocol: s.info.Protocol}
	if s.link != nil {
		v.Hello = s.link.helloExtension()
	}
	return v
}

// Served describes the session as EndServed would.
func (in *Incoming) Served() Served { return in.session.asServed() }

// served returns the accepted sessions that the peer opened. What a session's info
// says is settled once it is accepted.
func (l *link) served() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*session
	for s := range l.sessions {
		if s.accepted.Load() && !s.info.Initiator {
			out = append(out, s)
		}
	}
	return out
}

// end ends an accepted session and tells both ends why. It reports false for one
// that is closed already.
func (s *session) end(err error) bool {
	if s.closed.Load() || s.ctx.Err() != nil {
		return false
	}
	code := errorCode(err)
	s.ended.CompareAndSwap(nil, &err)
	s.str.CancelWrite(code)
	s.str.CancelRead(code)
	s.cancel()
	return true
}

// reason returns what this node ended the session for, as its peer gets it; nil if it
// did not. A stream that both ends cancel may read as if it had ended well.
func (s *session) reason() error {
	err := s.ended.Load()
	if err == nil {
		return nil
	}
	return streamError(&quic.StreamError{ErrorCode: errorCode(*err)})
}

// End ends an accepted session and tells the peer why: it gets the error that
// corresponds to err, as after Incoming.Reject. Close is still the caller's to call.
func (s *session) End(err error) { s.end(err) }

// PeerHello returns what the peer said of itself in the first words of its
// connection, its Config.Hello. It waits for them, which come soon after the
// handshake but may come after the first session, until ctx ends; then, and for a
// session of this node with itself, it is nil.
func (in *Incoming) PeerHello(ctx context.Context) []byte {
	l := in.session.link
	if l == nil {
		return nil
	}
	select {
	case <-l.greeted:
	case <-ctx.Done():
	case <-in.ctx.Done():
	}
	return l.helloExtension()
}
