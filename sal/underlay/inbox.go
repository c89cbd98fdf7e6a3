package underlay

import (
	"sync"

	"scn.alt/scn/sal/path"
)

type eventKind uint8

const (
	eventPath    eventKind = iota // a path message came
	eventUnknown                  // a QUIC packet came from an unknown address
	eventFailed                   // a send failed
	eventTooBig                   // EMSGSIZE
	eventTraffic                  // traffic began to move
	eventForward                  // a datagram to be forwarded came from an address not proved
)

// event comes from the data path; it is dropped when the engine is behind.
type event struct {
	kind  eventKind
	a     *Association
	route path.Route
	size  int
	ecn   byte
	data  *pathBuffer
}

const (
	eventQueue  = 1024
	maxPathData = 2048
)

type pathBuffer struct {
	n int
	b [maxPathData]byte
}

// inbox carries calls of the API to the engine; they are never dropped.
type inbox struct {
	mu     sync.Mutex // guards all below
	calls  []func(*engine)
	closed bool
	wake   chan struct{}
}

func (s *Socket) post(ev event) bool {
	select {
	case s.events <- ev:
		return true
	default:
		s.metrics.dropEvents.Add(1)
		return false
	}
}

// call runs f on the engine's goroutine, soon. It reports whether it will.
func (s *Socket) call(f func(*engine)) bool {
	s.inbox.mu.Lock()
	if s.inbox.closed {
		s.inbox.mu.Unlock()
		return false
	}
	s.inbox.calls = append(s.inbox.calls, f)
	s.inbox.mu.Unlock()
	select {
	case s.inbox.wake <- struct{}{}:
	default:
	}
	return true
}

// callWait runs f on the engine's goroutine and waits until it has run.
func (s *Socket) callWait(f func(*engine)) error {
	done := make(chan struct{})
	if !s.call(func(e *engine) { f(e); close(done) }) {
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-s.stopped:
		return ErrClosed
	}
}

func (b *inbox) take() []func(*engine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.closed = nil, true
}
