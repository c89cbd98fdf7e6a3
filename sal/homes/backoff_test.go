package homes

import (
	"testing"
	"time"
)

// TestStorm has a relay lose all of its nodes at once, as one does that got no
// processor for a while. It then makes one registration after the other, also those
// that their node does not wait for any more. All nodes are back within about three
// times what the work takes; with a patience that does not grow it is sixteen times.
func TestStorm(t *testing.T) {
	const (
		nodes = 2000
		cost  = 10 * time.Millisecond // of a registration: 20 s for all
		step  = 5 * time.Millisecond
	)
	type node struct {
		m     *Machine
		try   int       // serial number of the registration in the making
		until time.Time // when it is given up
		home  bool
	}
	type request struct{ node, try int }
	now := time.Unix(1_000_000, 0)
	all := make([]node, nodes)
	var queue []request
	asked, wasted, missing := 0, 0, nodes
	act := func(i int) {
		n := &all[i]
		for _, a := range n.m.Take() {
			if a, ok := a.(Register); ok {
				n.try++
				asked++
				n.until = now.Add(a.Timeout)
				queue = append(queue, request{i, n.try})
			}
		}
	}
	for i := range all {
		all[i].m = New(Config{Want: 1, Seed: uint64(i)})
		all[i].m.Know(now, id(1), FromNetwork)
		all[i].m.Take()
		all[i].m.Registered(now, id(1), time.Millisecond)
	}
	now = now.Add(10 * time.Minute)
	for i := range all {
		all[i].m.Heard(now, id(1), time.Millisecond)
		all[i].m.Failed(now, id(1))
		act(i)
	}
	begun, free := now, now
	for missing > 0 && now.Sub(begun) < 10*time.Minute {
		now = now.Add(step)
		for ; len(queue) > 0 && !free.After(now); free = free.Add(cost) {
			r := queue[0]
			queue = queue[1:]
			n := &all[r.node]
			if n.home || n.try != r.try || now.After(n.until) {
				wasted++
				continue
			}
			n.home = true
			missing--
			n.m.Registered(now, id(1), time.Millisecond)
			act(r.node)
		}
		if len(queue) == 0 && free.Before(now) {
			free = now
		}
		for i := range all {
			n := &all[i]
			switch d := n.m.Deadline(); {
			case n.home:
			case !n.until.IsZero() && now.After(n.until):
				n.until = time.Time{}
				n.try++
				n.m.Failed(now, id(1))
				act(i)
			case !d.IsZero() && !now.Before(d):
				n.m.Tick(now)
				act(i)
			}
		}
	}
	took := now.Sub(begun)
	t.Logf("%d nodes back after %v, %d asked, %d in vain", nodes-missing, took, asked, wasted)
	if missing > 0 || took > time.Minute+10*time.Second {
		t.Errorf("%d nodes still without a home after %v", missing, took)
	}
}

func TestPatience(t *testing.T) {
	if Patience(-1) != firstPatience || Patience(0) != firstPatience || Patience(1) != 2*firstPatience {
		t.Error(Patience(-1), Patience(0), Patience(1))
	}
	if Patience(1<<40) != lastPatience {
		t.Error(Patience(1 << 40))
	}
}
