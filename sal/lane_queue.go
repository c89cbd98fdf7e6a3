package sal

import (
	"sync"
	"time"
)

// Bounds of the datagrams that wait to be sent on one connection.
const (
	// laneQueue is how many wait in all, 3 MB at most: the pauses of a busy machine
	// are some ten milliseconds, and 200 Mb/s of full datagrams are 18 each.
	laneQueue = 2048
	// laneShare is how many of them one flow may have.
	laneShare = laneQueue / 2
	// laneDelay is how old a datagram may become in the queue of a flow of which
	// more than laneStanding wait: a flood that the network does not take must not
	// turn into delay. Flows that send little keep theirs through an outage.
	laneDelay    = 100 * time.Millisecond
	laneStanding = 128
	// datagramSize is the buffer of one QUIC datagram; above the largest possible.
	datagramSize = 1500
)

// outgoing is one QUIC datagram that waits to be sent.
type outgoing struct {
	buf    [datagramSize]byte
	n      int
	queued time.Time
	next   *outgoing
	// owner is the session that was metered for it, for size bytes; nil for others.
	owner *session
	size  int
}

// drop gives the bytes back that the session's meter has counted, and o to the pool.
func (o *outgoing) drop() {
	if o.owner != nil {
		o.owner.untake(o.size)
	}
	o.free()
}

func (o *outgoing) free() {
	o.owner = nil
	outgoingPool.Put(o)
}

var outgoingPool = sync.Pool{New: func() any { return new(outgoing) }}

// flowQueue is what one flow has waiting. The zero value is empty. It belongs to
// the sendQueue.
type flowQueue struct {
	owner       *session // whose datagrams are metered; nil: nobody's
	first, last *outgoing
	n           int
	next        *flowQueue // whose turn comes after this one's
}

func (f *flowQueue) push(o *outgoing) {
	if f.last == nil {
		f.first = o
	} else {
		f.last.next = o
	}
	f.last = o
	f.n++
}

func (f *flowQueue) pop() *outgoing {
	o := f.first
	f.first, o.next = o.next, nil
	if f.first == nil {
		f.last = nil
	}
	f.n--
	return o
}

// sendQueue is the datagrams of all flows of a connection that wait to be sent.
// The flows take turns, so that a flood delays nobody but itself.
type sendQueue struct {
	wake chan struct{} // cap 1: the queue is not empty any more

	mu          sync.Mutex // guards below and the flowQueues
	first, last *flowQueue // those with something to send, in the order of their turns
	flows       int
	n           int
}

func newSendQueue() *sendQueue { return &sendQueue{wake: make(chan struct{}, 1)} }

// push appends o to a flow. It returns what there is no room for: o itself, or an
// older datagram of a flow that has more than its part of a full queue.
func (q *sendQueue) push(f *flowQueue, o *outgoing) (surplus *outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.n >= laneShare {
		return o
	}
	if q.n >= laneQueue {
		if surplus = q.makeRoom(f); surplus == nil {
			return o
		}
	}
	if f.n == 0 {
		q.append(f)
	}
	f.push(o)
	q.n++
	if q.n == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return surplus
}

// makeRoom takes the oldest datagram of a flow that has more than its part, if f
// has not got its part yet.
func (q *sendQueue) makeRoom(f *flowQueue) *outgoing {
	part := laneQueue / max(1, q.flows)
	if f.n >= part {
		return nil
	}
	for g := q.first; g != nil; g = g.next {
		if g.n > max(part, 1) { // g keeps its turn
			q.n--
			return g.pop()
		}
	}
	return nil
}

// pop takes the next datagram, nil if there is none, and beside it, linked, what
// has waited for too long.
func (q *sendQueue) pop(now time.Time) (next, stale *outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.first
	if f == nil {
		return nil, nil
	}
	for f.n > laneStanding && now.Sub(f.first.queued) > laneDelay {
		o := f.pop()
		o.next, stale = stale, o
		q.n--
	}
	next = f.pop()
	q.n--
	q.first, f.next = f.next, nil
	q.flows--
	if q.first == nil {
		q.last = nil
	}
	if f.n > 0 {
		q.append(f)
	}
	return next, stale
}

// append gives a flow the last turn.
func (q *sendQueue) append(f *flowQueue) {
	if q.last == nil {
		q.first = f
	} else {
		q.last.next = f
	}
	q.last = f
	q.flows++
}
