package sal

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSendQueue compares the queue with lists of numbers: the flows take turns, each
// keeps its order, and what there is no room for is what the rules say.
func TestSendQueue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	q := newSendQueue()
	flows := make([]flowQueue, 5)
	model := make([][]int, len(flows))
	var turns []int // of the flows that have something
	now := time.Unix(1, 0)
	total, number := 0, 0
	of := make(map[*outgoing][2]int) // flow and number
	for step := range 60_000 {
		i := random.IntN(len(flows))
		if step/5000%2 == 0 && random.IntN(4) > 0 { // now it fills up, now it empties
			number++
			o := &outgoing{queued: now}
			of[o] = [2]int{i, number}
			surplus := q.push(&flows[i], o)
			part := laneQueue / max(1, len(turns))
			switch {
			case len(model[i]) >= laneShare, total >= laneQueue && len(model[i]) >= part:
				if surplus != o {
					t.Fatalf("step %d: flow %d with %d of %d is given room", step, i, len(model[i]), total)
				}
				continue
			case total >= laneQueue:
				if surplus == nil || surplus == o {
					t.Fatalf("step %d: flow %d with %d of %d is given no room", step, i, len(model[i]), total)
				}
				victim := of[surplus]
				if len(model[victim[0]]) <= part || model[victim[0]][0] != victim[1] {
					t.Fatalf("step %d: made room with number %d of flow %d", step, victim[1], victim[0])
				}
				model[victim[0]] = model[victim[0]][1:]
				total--
			case surplus != nil:
				t.Fatalf("step %d: no room for flow %d with %d of %d", step, i, len(model[i]), total)
			}
			if len(model[i]) == 0 {
				turns = append(turns, i)
			}
			model[i] = append(model[i], number)
			total++
			continue
		}
		o, stale := q.pop(now)
		if stale != nil {
			t.Fatal("stale without age")
		}
		if len(turns) == 0 {
			if o != nil {
				t.Fatal("popped from an empty queue")
			}
			continue
		}
		next := turns[0]
		turns = turns[1:]
		if got := of[o]; got != [2]int{next, model[next][0]} {
			t.Fatalf("step %d: got number %d of flow %d, want %d of %d", step, got[1], got[0], model[next][0], next)
		}
		if model[next] = model[next][1:]; len(model[next]) > 0 {
			turns = append(turns, next)
		}
		total--
	}
	if q.n != total || q.flows != len(turns) {
		t.Errorf("%d datagrams of %d flows, want %d of %d", q.n, q.flows, total, len(turns))
	}
}

// TestSendQueueAge: a flood that the network does not take does not turn into delay; a
// flow that sends little keeps its datagrams through an outage.
func TestSendQueueAge(t *testing.T) {
	q := newSendQueue()
	var flood, calm flowQueue
	start := time.Unix(1, 0)
	for range laneShare {
		if q.push(&flood, &outgoing{queued: start}) != nil {
			t.Fatal("no room")
		}
	}
	for range 50 {
		if q.push(&calm, &outgoing{queued: start}) != nil {
			t.Fatal("no room")
		}
	}
	drain := func(now time.Time) (sent, dropped int) {
		for {
			o, stale := q.pop(now)
			for ; stale != nil; stale = stale.next {
				dropped++
			}
			if o == nil {
				return sent, dropped
			}
			sent++
		}
	}
	if _, stale := q.pop(start.Add(laneDelay)); stale != nil {
		t.Error("given up too soon")
	}
	sent, dropped := drain(start.Add(2 * laneDelay))
	if sent != laneStanding+50 || dropped != laneShare-1-laneStanding {
		t.Errorf("after an outage %d were sent and %d dropped", sent, dropped)
	}
	if q.first != nil || q.last != nil || q.n != 0 || q.flows != 0 {
		t.Errorf("not empty: %+v", q)
	}
}

// TestSendQueueFairness: a flow that begins while another floods the queue is served
// in its turn.
func TestSendQueueFairness(t *testing.T) {
	q := newSendQueue()
	floods := make([]flowQueue, 3)
	for range laneQueue {
		for i := range floods {
			q.push(&floods[i], new(outgoing))
		}
	}
	if q.n != laneQueue {
		t.Fatalf("%d datagrams", q.n)
	}
	var calm flowQueue
	mine := new(outgoing)
	if surplus := q.push(&calm, mine); surplus == nil || surplus == mine {
		t.Fatal("a flow that has nothing gets no room")
	}
	for range len(floods) + 1 {
		if o, _ := q.pop(time.Time{}); o == mine {
			return
		}
	}
	t.Error("a flow does not get its turn")
}

func TestTryWrite(t *testing.T) {
	client, server, service := testPair(t)
	arrived := countDatagrams(server, service)
	c, err := client.DialPacket(timeoutContext(t, 20*time.Second), service, 1)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a datagram arrives", func() bool {
		if err := c.TryWrite([]byte("x")); err != nil {
			t.Fatal(err)
		}
		return arrived.Load() > 0
	})
	_ = c.SetWriteDeadline(time.Now().Add(time.Hour)) // TryWrite does not wait for it
	full := 0
	for end := time.Now().Add(10 * time.Second); full == 0 && time.Now().Before(end); {
		for range 10 { // parts of large datagrams fill the queue faster than it empties
			if err := c.TryWrite(make([]byte, MaxDatagram)); errors.Is(err, ErrFull) {
				full++
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	if full == 0 {
		t.Error("the queue never fills")
	}
	if err := c.TryWrite(make([]byte, MaxDatagram+1)); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("too large: %v", err)
	}
	c.Close()
	if err := c.TryWrite([]byte("x")); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("closed: %v", err)
	}
}
