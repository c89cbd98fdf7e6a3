package sal

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/homes"
	"scn.alt/scn/sal/underlay"
)

// link is one QUIC connection to a peer, with its place in the carrier.
//
//	handshake ──► active ──► retired ──► closed
//	                 └──────────────────►┘
//
// A retired link takes no new sessions, because another link of the same two
// nodes took over; it closes once its last session has ended. An active link
// closes when it had no session for IdleTimeout.
type link struct {
	node      *Node
	peer      identity.NodeID
	initiator bool // this node dialled
	quic      *quic.Conn
	assoc     association
	anchor    *anchor // of assoc
	lane      *quicLane
	ctx       context.Context // ends with the connection
	opened    time.Time
	wg        sync.WaitGroup

	pings       flowQueue     // pings and pongs; the lane's
	frames      flowQueue     // of the meter; the lane's
	established sync.Once     // hello received
	greeted     chan struct{} // closed when it was
	loss        lossWatch     // of the relays' loop
	exported    sync.Once     // guards the next two
	secret      [32]byte
	exportErr   error

	mu       sync.Mutex // guards below
	sessions map[*session]struct{}
	// registrations counts those of the sessions that are for relaying.
	registrations int
	serves        bool      // this node is the relay of one of them
	idle          time.Time // since when there is no session
	lastEnd       time.Time // when a session last ended
	retired       bool
	ended         bool // takes no session any more
	instance      [16]byte
	known         bool   // instance is known
	said          []byte // the opaque part of the peer's hello
}

func newLink(n *Node, peer identity.NodeID, initiator bool, conn *quic.Conn, assoc association) *link {
	now := time.Now()
	l := &link{
		node: n, peer: peer, initiator: initiator, quic: conn, assoc: assoc, anchor: newAnchor(assoc, peer), ctx: conn.Context(),
		opened: now, idle: now, sessions: make(map[*session]struct{}),
		greeted: make(chan struct{}),
	}
	l.lane = newQUICLane(l)
	return l
}

// run serves the connection until it ends.
func (l *link) run() {
	l.wg.Go(l.acceptLoop)
	l.wg.Go(l.lane.receiveLoop)
	l.wg.Go(l.sendHello)
	l.wg.Go(l.receiveHello)
	<-l.ctx.Done()
	l.node.cfg.Logger.Debug("connection ended", "peer", l.peer.Short(), "err", context.Cause(l.ctx))
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.node.dropLink(l)
	l.anchor.unlink()
	l.wg.Wait()
	c := &l.node.counters
	c.lostSent.Add(l.lane.sent.Load())
	c.lostReceived.Add(l.lane.received.Load())
	c.lostDropped.Add(l.lane.dropped.Load())
	c.lostMangled.Add(l.lane.garbage.Load())
}

// bind hands the keys of the path protocol to the carrier.
func (l *link) bind() error {
	state := l.quic.ConnectionState()
	secret, err := state.TLS.ExportKeyingMaterial(underlay.ExporterLabel, nil, underlay.SecretSize)
	if err != nil {
		return err
	}
	return l.assoc.Bind(secret, l.initiator)
}

// exporter returns secret bytes of the connection that the exporters of its sessions
// are made of. TLS makes them slowly, so that is done once.
func (l *link) exporter() ([32]byte, error) {
	l.exported.Do(func() {
		state := l.quic.ConnectionState()
		b, err := state.TLS.ExportKeyingMaterial(sessionLabel, nil, len(l.secret))
		copy(l.secret[:], b)
		l.exportErr = err
	})
	return l.secret, l.exportErr
}

// close ends the connection with a reason for the peer.
func (l *link) close(code quic.ApplicationErrorCode) {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	_ = l.quic.CloseWithError(code, "")
}

// Bounds of flush.
const (
	flushRecent = time.Second
	flushLimit  = time.Second
	flushQuiet  = 50 * time.Millisecond // more than a busy machine pauses a process
)

// flush waits for what closed sessions still have to send: closing a QUIC
// connection drops it. QUIC does not tell when a stream is done, so a connection
// that neither sent nor received for a few round trips counts as flushed.
func (l *link) flush() {
	l.mu.Lock()
	recent := time.Since(l.lastEnd) < flushRecent
	l.mu.Unlock()
	if !recent {
		return
	}
	for end := time.Now().Add(flushLimit); time.Now().Before(end) && l.ctx.Err() == nil; {
		before := l.quic.ConnectionStats()
		time.Sleep(min(max(4*before.SmoothedRTT, flushQuiet), flushLimit/2))
		after := l.quic.ConnectionStats()
		if after.BytesSent == before.BytesSent && after.PacketsReceived == before.PacketsReceived {
			return
		}
	}
}

func (l *link) sendHello() {
	s, err := l.quic.OpenUniStream()
	if err != nil {
		return
	}
	m := helloMessage{Instance: l.node.instance, Time: l.node.cfg.Clock().UnixNano(), Extension: l.node.cfg.Hello}
	if l.node.relay != nil {
		m.Capabilities |= capabilityRelay
	}
	_, _ = s.Write(m.Append(nil))
	// The stream stays open for later control messages.
}

func (l *link) receiveHello() {
	for {
		s, err := l.quic.AcceptUniStream(l.ctx)
		if err != nil {
			return
		}
		m, err := readHello(s)
		if err != nil {
			if l.ctx.Err() == nil {
				l.node.counters.malformed.Add(1)
				l.close(closeProtocol)
			}
			return
		}
		l.established.Do(func() { l.greet(m) })
		s.CancelRead(codeClosed) // nothing more is understood
	}
}

func (l *link) greet(m helloMessage) {
	l.mu.Lock()
	l.instance, l.known, l.said = m.Instance, true, m.Extension
	l.mu.Unlock()
	close(l.greeted)
	l.node.clock.observe(l.peer, time.Unix(0, m.Time), l.node.cfg.Clock(), l.quic.ConnectionStats().SmoothedRTT)
	l.node.endStale(l.peer, time.Now())
	if m.Capabilities&capabilityRelay != 0 {
		if at, ok := relayAt(l.peer, l.assoc); ok {
			l.node.relays.know(l.peer, at.Addresses, homes.FromRelay)
		}
	}
}

func readHello(r io.Reader) (helloMessage, error) {
	header := make([]byte, helloFixedSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return helloMessage{}, err
	}
	_, body, err := parseHelloHeader(header)
	if err != nil {
		return helloMessage{}, err
	}
	b := make([]byte, helloFixedSize+body)
	copy(b, header)
	if _, err := io.ReadFull(r, b[helloFixedSize:]); err != nil {
		return helloMessage{}, err
	}
	m, _, err := parseHello(b)
	return m, err
}

// acceptLoop serves the sessions that the peer opens.
func (l *link) acceptLoop() {
	for {
		str, err := l.quic.AcceptStream(l.ctx)
		if err != nil {
			return
		}
		s := &session{node: l.node, link: l, str: str, lane: l.lane, flow: FlowID(str.StreamID())}
		if err := l.node.openSession(s); err != nil {
			refuse(str, StatusOverCapacity)
			continue
		}
		l.wg.Go(func() { l.node.serve(s) })
	}
}

// addSession counts a session, unless the link takes no more.
func (l *link) addSession(s *session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.sessions[s] = struct{}{}
	if len(l.sessions) == 1 {
		l.anchor.setSessions(1)
	}
	return true
}

func (l *link) removeSession(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.sessions[s]; !ok {
		return
	}
	delete(l.sessions, s)
	now := time.Now()
	if s.registration {
		l.registrations--
	} else {
		l.lastEnd, l.idle = now, now
	}
	if len(l.sessions) == 0 {
		l.idle = now
		l.anchor.setSessions(0)
	}
}

// retire makes the link take no new sessions of this node.
func (l *link) retire() {
	l.mu.Lock()
	if !l.retired {
		l.retired = true
		if len(l.sessions) == 0 {
			l.idle = time.Now() // the peer may not know yet
		}
	}
	l.mu.Unlock()
}

// revive undoes retire: the link that took over is gone.
func (l *link) revive() {
	l.mu.Lock()
	l.retired = false
	l.mu.Unlock()
}

// helloInstance returns which life of the peer the link belongs to, once it said.
func (l *link) helloInstance() (instance [16]byte, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.instance, l.known
}

// helloExtension returns the opaque part of the peer's hello.
func (l *link) helloExtension() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// roundTrip returns the smoothed round trip time.
func (l *link) roundTrip() time.Duration { return l.quic.ConnectionStats().SmoothedRTT }

// usable reports whether new sessions may be opened on the link.
func (l *link) usable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended && !l.retired && l.ctx.Err() == nil
}

// isRetired reports whether another connection of the same two nodes took over from
// this one, which goes on.
func (l *link) isRetired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retired && l.ctx.Err() == nil
}

// parked reports whether the connection ended because nothing but a registration
// needed it.
func (l *link) parked() bool {
	var e *quic.ApplicationError
	return l.ctx.Err() != nil && errors.As(context.Cause(l.ctx), &e) && e.ErrorCode == closeParked
}

// expire closes the link if it was without sessions for long enough. Of a registration
// the association stays; it is the relay that decides when its connection is not needed.
func (l *link) expire(now time.Time) {
	l.mu.Lock()
	limit, code := l.node.cfg.IdleTimeout, closeIdle
	if l.retired {
		limit, code = l.node.cfg.drainGrace, closeRetired
	}
	if l.registrations > 0 {
		limit, code = l.node.parkAfter(), closeParked
	}
	due := !l.ended && len(l.sessions) == l.registrations && now.Sub(l.idle) >= limit && (l.registrations == 0 || l.serves)
	if due {
		l.ended = true
	}
	l.mu.Unlock()
	if due {
		l.node.cfg.Logger.Debug("connection closed", "peer", l.peer.Short(), "retired", code == closeRetired)
		_ = l.quic.CloseWithError(code, "")
	}
}

// openCount returns how many sessions are open, without registrations at relays.
func (l *link) openCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions) - l.registrations
}

// noteRegistration notes that one of the sessions is a registration at a relay: nobody
// keeps its reader waiting, and it is no session of the link's users. serves is set at
// the relay.
func (l *link) noteRegistration(s *session, serves bool) {
	s.win.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.sessions[s]; open && !s.registration {
		s.registration = true
		l.registrations++
		l.serves = l.serves || serves
	}
}

// heldBytes sums what sessions may hold whose reader does not wait for data.
func (l *link) heldBytes() (sum int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.sessions {
		sum += s.win.held()
	}
	return sum
}

// errLinkGone is returned when a link ended before the session was accepted; the
// dialer tries once more on a new one.
var errLinkGone = errors.New("sal: connection ended")

// open opens a session and, unless early, waits for the answer.
func (l *link) open(ctx context.Context, r *request, early bool) (*session, error) {
	s := &session{node: l.node, link: l, lane: l.lane}
	if err := l.node.openSession(s); err != nil {
		return nil, err
	}
	str, err := l.quic.OpenStream()
	if err != nil {
		s.release()
		var limit *quic.StreamLimitReachedError
		if errors.As(err, &limit) {
			return nil, ErrOverCapacity
		}
		return nil, l.lostError(err)
	}
	s.str, s.flow = str, FlowID(str.StreamID())
	if err := s.sendOpen(r); err != nil {
		s.abort()
		return nil, l.lostError(err)
	}
	if early {
		return s, nil
	}
	if err := s.awaitUntil(ctx); err != nil {
		s.abort()
		if errors.Is(err, ErrLost) {
			err = errLinkGone
		}
		return nil, err
	}
	return s, nil
}

// lostError tells a link that merely ended, which is worth another try, from one
// whose peer does not want us.
func (l *link) lostError(err error) error {
	if e := linkError(err, true); !errors.Is(e, ErrLost) {
		return e
	}
	return errLinkGone
}
