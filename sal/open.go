package sal

import (
	"context"
	"crypto/rand"
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// request is what a dial asks for.
type request struct {
	service  identity.ServiceID
	port     uint16
	protocol record.Protocol
	// nonce names the session; zero: one is drawn.
	nonce [32]byte
}

// acceptTimeout is how long the open message may take after its stream was opened: no
// less than a dialer waits for the answer by default.
const acceptTimeout = 20 * time.Second

// openSession prepares a session: memory, context, and its place in the link. It
// fails when the node or the link takes no more.
func (n *Node) openSession(s *session) error {
	if !s.win.open(&n.budget, n.cfg.InitialWindow, n.cfg.MaxWindow) {
		n.counters.overCapacity.Add(1)
		return ErrOverCapacity
	}
	parent := n.ctx
	if s.link != nil {
		parent = s.link.ctx
	}
	s.ctx, s.cancel = context.WithCancel(parent)
	s.info.Local = n.id
	if s.link == nil {
		s.info.Peer = n.id
		if !n.loops.add(s) {
			s.cancel()
			s.win.close()
			return ErrClosed
		}
		return nil
	}
	s.info.Peer = s.link.peer
	if !s.link.addSession(s) {
		s.cancel()
		s.win.close()
		return errLinkGone
	}
	return nil
}

// sendOpen sends the open message of a dialer. It does not wait.
func (s *session) sendOpen(r *request) error {
	s.info.Initiator = true
	s.info.Service, s.info.Port, s.info.Protocol = r.service, r.port, r.protocol
	if s.info.Nonce = r.nonce; s.info.Nonce == ([32]byte{}) {
		_, _ = rand.Read(s.info.Nonce[:]) // never fails
	}
	if m := s.node.cfg.Meter; m != nil && s.link != nil {
		s.info.Opening = m.Opening(s.info)
	}
	message := openMessage{
		Protocol: r.protocol, Port: r.port, Service: r.service, Nonce: s.info.Nonce, Extension: s.info.Opening,
	}
	if len(message.Extension) > MaxExtension {
		return errTooLong
	}
	return s.writeMessage(message.Append(make([]byte, 0, message.Len())))
}

// writeMessage writes an open or an answer. What fits into a packet is queued at
// once; an extension that does not must not wait for ever on a dead path.
func (s *session) writeMessage(b []byte) error {
	const atOnce = 1200
	if len(b) > atOnce {
		_ = s.str.SetWriteDeadline(time.Now().Add(s.node.cfg.OpenTimeout))
		defer func() { _ = s.str.SetWriteDeadline(time.Time{}) }()
	}
	_, err := s.str.Write(b)
	return err
}

// awaitUntil waits for the answer until ctx ends.
func (s *session) awaitUntil(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.str.SetReadDeadline(aLongTimeAgo) })
	err := s.await()
	if !stop() && err == nil {
		_ = s.str.SetReadDeadline(time.Time{})
	}
	if isDeadline(err) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// refuse answers an open with anything but an acceptance, and ends its stream.
func refuse(str stream, status Status) {
	_, _ = str.Write(answerMessage{Status: status}.Append(nil))
	str.CancelRead(codeStatus + quic.StreamErrorCode(status))
	_ = str.Close()
}

// serve serves a session that somebody opened at this node: it reads the open
// message, looks whom it is for, and runs the handler.
func (n *Node) serve(s *session) {
	message, err := s.readOpen()
	if err != nil {
		n.counters.malformed.Add(1)
		refuse(s.str, StatusBadRequest)
		s.release()
		return
	}
	s.info.Service, s.info.Port, s.info.Protocol = message.Service, message.Port, message.Protocol
	s.info.Nonce, s.info.Opening = message.Nonce, message.Extension
	in := &Incoming{
		Peer: s.info.Peer, Service: message.Service, Port: message.Port, Protocol: message.Protocol, session: s,
	}
	handler, status := n.admitSession(s)
	if status != StatusAccepted {
		in.reject(status)
		return
	}
	in.watch()
	handler(in.ctx, in)
	in.finish()
}

// admitSession finds the handler of a session and checks that it may be opened.
func (n *Node) admitSession(s *session) (Handler, Status) {
	if n.ctx.Err() != nil {
		return nil, StatusDraining
	}
	if s.info.Protocol != record.TCP && s.info.Protocol != record.UDP {
		return nil, StatusBadRequest
	}
	handler, status := n.services.lookup(s.info.Service, s.info.Port, s.info.Protocol)
	if status != StatusAccepted {
		return nil, status
	}
	if authorize := n.cfg.Authorizer; authorize != nil && s.link != nil && !n.isRegistration(s) {
		if err := authorize(s.info.Peer, s.info.Service, s.info.Port, s.info.Protocol); err != nil {
			n.counters.unauthorized.Add(1)
			return nil, StatusNotAuthorized
		}
	}
	return handler, StatusAccepted
}

// readOpen reads the open message of an incoming session.
func (s *session) readOpen() (openMessage, error) {
	_ = s.str.SetReadDeadline(time.Now().Add(acceptTimeout))
	b := make([]byte, openFixedSize, openFixedSize+8)
	if _, err := io.ReadFull(s.str, b); err != nil {
		return openMessage{}, err
	}
	_, body, err := parseOpenHeader(b)
	if err != nil {
		return openMessage{}, err
	}
	b = append(b, make([]byte, body)...)
	if _, err := io.ReadFull(s.str, b[openFixedSize:]); err != nil {
		return openMessage{}, err
	}
	_ = s.str.SetReadDeadline(time.Time{})
	m, _, err := parseOpen(b)
	return m, err
}
