package sal

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Bounds of what is kept for flows whose open has not arrived yet.
const (
	earlyDatagrams = 64
	earlyBytes     = 64 << 10
	earlyLife      = time.Second
)

// quicLane carries datagrams over the QUIC datagrams of one connection
// (RFC 9221). quic-go's own queue blocks its user when the network is down, so
// ours stands before it: it drops instead.
type quicLane struct {
	link  *link // constant
	queue *sendQueue
	start sync.Once
	size  int // constant: bytes that fit into one datagram

	mu    sync.RWMutex // guards below
	flows map[FlowID]*session
	early []earlyDatagram

	sent, received, dropped, garbage atomic.Uint64
}

type earlyDatagram struct {
	at   time.Time
	flow FlowID
	raw  []byte
}

func newQUICLane(l *link) *quicLane {
	q := &quicLane{
		link: l, queue: newSendQueue(), flows: make(map[FlowID]*session), size: 1200,
	}
	// Too large a datagram is refused with the size that would fit, and not sent.
	var tooLarge *quic.DatagramTooLargeError
	if err := l.quic.SendDatagram(make([]byte, 1<<12)); errors.As(err, &tooLarge) {
		q.size = min(int(tooLarge.MaxDatagramPayloadSize), datagramSize)
	}
	return q
}

func (q *quicLane) room() int { return q.size }

func (q *quicLane) register(flow FlowID, s *session) {
	q.mu.Lock()
	q.flows[flow] = s
	var mine []earlyDatagram
	rest := q.early[:0]
	for _, e := range q.early {
		if e.flow == flow {
			mine = append(mine, e)
		} else {
			rest = append(rest, e)
		}
	}
	q.early = rest
	q.mu.Unlock()
	var m datagramMessage
	for _, e := range mine {
		if m.parse(e.raw) == nil && time.Since(e.at) < earlyLife {
			s.receive(&m)
		}
	}
}

func (q *quicLane) unregister(flow FlowID) {
	q.mu.Lock()
	delete(q.flows, flow)
	q.mu.Unlock()
}

func (q *quicLane) send(m *datagramMessage, f *flowQueue) bool {
	if m.Len() > q.size {
		q.dropped.Add(1)
		return false
	}
	o := outgoingPool.Get().(*outgoing)
	o.n, o.queued = len(m.Append(o.buf[:0])), time.Now()
	if m.Kind == kindWhole || m.Kind == kindPart {
		o.owner, o.size = f.owner, len(m.Payload)
	}
	surplus := q.queue.push(f, o)
	switch surplus {
	case nil:
	case o: // the caller hears of it
		q.dropped.Add(1)
		o.free()
	default:
		q.dropped.Add(1)
		surplus.drop()
	}
	q.start.Do(func() { q.link.wg.Go(q.sendLoop) })
	return surplus != o
}

// sendLoop hands the queue to QUIC until the connection ends.
func (q *quicLane) sendLoop() {
	for {
		o, stale := q.queue.pop(time.Now())
		for stale != nil {
			q.dropped.Add(1)
			old := stale
			stale, old.next = old.next, nil
			old.drop()
		}
		if o == nil {
			select {
			case <-q.queue.wake:
				continue
			case <-q.link.ctx.Done():
				return
			}
		}
		err := q.link.quic.SendDatagram(o.buf[:o.n])
		switch {
		case err == nil:
			q.sent.Add(1)
			o.free()
		case q.link.ctx.Err() != nil:
			o.free()
			return
		default:
			q.dropped.Add(1)
			o.drop()
		}
	}
}

// receiveLoop hands arriving datagrams to their sessions until the connection
// ends.
func (q *quicLane) receiveLoop() {
	var m datagramMessage
	for {
		raw, err := q.link.quic.ReceiveDatagram(q.link.ctx)
		if err != nil {
			return
		}
		q.received.Add(1)
		if m.parse(raw) != nil {
			q.garbage.Add(1)
			continue
		}
		switch m.Kind {
		case kindPing:
			q.link.answerPing(&m)
		case kindPong:
			q.link.node.pings.answer(q.link.peer, m.Token, m.Status)
		case kindMeter:
			if meter := q.link.node.cfg.Meter; meter != nil {
				meter.Frame(q.link.peer, m.Payload)
			}
		default:
			q.dispatch(&m, raw)
		}
	}
}

func (q *quicLane) dispatch(m *datagramMessage, raw []byte) {
	q.mu.RLock()
	s := q.flows[m.Flow]
	q.mu.RUnlock()
	if s != nil {
		s.receive(m)
		return
	}
	if !q.keepEarly(m.Flow, raw) {
		q.dropped.Add(1)
	}
}

// keepEarly keeps a datagram that overtook the open of its flow.
func (q *quicLane) keepEarly(flow FlowID, raw []byte) bool {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flows[flow] != nil {
		return false // registered this very moment: as good as lost on the way
	}
	bytes := len(raw)
	keep := q.early[:0]
	for _, e := range q.early {
		if now.Sub(e.at) < earlyLife {
			keep = append(keep, e)
			bytes += len(e.raw)
		}
	}
	q.early = keep
	if len(q.early) >= earlyDatagrams || bytes > earlyBytes {
		return false
	}
	q.early = append(q.early, earlyDatagram{now, flow, raw})
	return true
}

// loopLane carries the datagrams of one in-process session from one end to the
// other.
type loopLane struct {
	mu    sync.Mutex // guards below
	ends  [2]*session
	early [2][]datagramMessage // for an end that has not registered yet
}

// loopEnd is the lane as one end sees it.
type loopEnd struct {
	*loopLane
	side int
}

func (e loopEnd) room() int { return MaxDatagram + 16 }

func (e loopEnd) register(_ FlowID, s *session) {
	e.mu.Lock()
	e.ends[e.side] = s
	early := e.early[e.side]
	e.early[e.side] = nil
	e.mu.Unlock()
	for i := range early {
		s.receive(&early[i])
	}
}

func (e loopEnd) unregister(FlowID) {
	e.mu.Lock()
	e.ends[e.side] = nil
	e.mu.Unlock()
}

func (e loopEnd) send(m *datagramMessage, _ *flowQueue) bool {
	other := 1 - e.side
	c := *m
	c.Payload = append([]byte(nil), m.Payload...)
	e.mu.Lock()
	s := e.ends[other]
	if s == nil {
		if ok := len(e.early[other]) < earlyDatagrams; ok {
			e.early[other] = append(e.early[other], c)
		}
		e.mu.Unlock()
		return true
	}
	e.mu.Unlock()
	s.receive(&c)
	return true
}
