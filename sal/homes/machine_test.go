package homes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
)

func id(i int) identity.NodeID { return identity.NodeID{byte(i), 1} }

// world carries out what a Machine asks for, at once, in its own time.
type world struct {
	t     *testing.T
	m     *Machine
	now   time.Time
	rtt   map[identity.NodeID]time.Duration
	dead  map[identity.NodeID]bool
	busy  map[identity.NodeID]bool // refuse
	homes []identity.NodeID
	regs  map[identity.NodeID]bool
	asked map[identity.NodeID]int
	check int
	told  int
}

func newWorld(t *testing.T, want int) *world {
	return &world{
		t: t, m: New(Config{Want: want, Seed: 1}), now: time.Unix(1_000_000, 0),
		rtt: map[identity.NodeID]time.Duration{}, dead: map[identity.NodeID]bool{}, busy: map[identity.NodeID]bool{},
		regs: map[identity.NodeID]bool{}, asked: map[identity.NodeID]int{},
	}
}

func (w *world) know(source Source, rtt ...time.Duration) {
	for _, d := range rtt {
		n := id(len(w.rtt) + 1)
		w.rtt[n] = d
		w.m.Know(w.now, n, source)
		w.settle()
	}
}

// settle carries out all actions.
func (w *world) settle() {
	for actions := w.m.Take(); len(actions) > 0; actions = w.m.Take() {
		for _, a := range actions {
			switch a := a.(type) {
			case Register:
				w.asked[a.Relay]++
				switch {
				case w.busy[a.Relay]:
					w.m.Refused(w.now, a.Relay, 0)
				case !w.dead[a.Relay]:
					w.regs[a.Relay] = true
					w.m.Registered(w.now, a.Relay, w.rtt[a.Relay])
				}
			case Drop:
				delete(w.regs, a.Relay)
			case Check:
				w.check++
			case Homes:
				w.homes = a.Relays
				w.told++
			}
		}
	}
}

// run lets time pass; relays that answer no registration fail after 2.5 s, those that
// are registered are heard every second.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for w.now.Before(end) {
		next := w.now.Add(max(100*time.Millisecond, d/2000))
		if due := w.m.Deadline(); !due.IsZero() && due.Before(next) {
			next = due
			if !due.After(w.now) {
				w.t.Fatalf("a deadline %v in the past", w.now.Sub(due))
			}
		}
		w.now = next
		w.m.Tick(w.now)
		for _, r := range w.m.relays {
			switch {
			case r.state == trying && w.now.Sub(r.since) > 2500*time.Millisecond:
				w.m.Failed(w.now, r.id)
			case r.state == home && !w.dead[r.id]:
				w.m.Heard(w.now, r.id, w.rtt[r.id])
			}
		}
		w.settle()
	}
}

func (w *world) want(what string, homes ...int) {
	w.t.Helper()
	var list []identity.NodeID
	for _, i := range homes {
		list = append(list, id(i))
	}
	got := slices.Clone(w.homes)
	slices.SortFunc(got, identity.NodeID.Compare)
	if !slices.Equal(got, list) {
		w.t.Errorf("%s: homes %v, want %v", what, got, list)
	}
}

const ms = time.Millisecond

func TestNearestBecomeHomes(t *testing.T) {
	w := newWorld(t, 2)
	w.know(FromNetwork, 90*ms, 80*ms)
	w.want("the first two", 1, 2)
	w.know(FromRelay, 10*ms, 85*ms, 20*ms)
	w.want("nobody knows yet", 1, 2)
	w.run(time.Hour)
	w.want("measured", 3, 5)
	if w.told > 4 {
		t.Errorf("told %d times", w.told)
	}
	asked := w.asked[id(4)]
	w.run(20 * time.Minute)
	if w.asked[id(4)] > asked+1 {
		t.Errorf("a slow relay was asked %d times", w.asked[id(4)]-asked)
	}
}

func TestSmallDifferencesDoNotMatter(t *testing.T) {
	w := newWorld(t, 1)
	w.know(FromNetwork, 20*ms, 17*ms, 18*ms)
	first := w.homes
	w.run(2 * time.Hour)
	if !slices.Equal(w.homes, first) || w.told != 1 {
		t.Errorf("homes went from %v to %v, told %d times", first, w.homes, w.told)
	}
}

func TestFailedHomeIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t, 2)
	w.know(FromNetwork, 10*ms, 20*ms, 30*ms)
	w.want("before", 1, 2)
	w.dead[id(1)] = true
	w.m.Failed(w.now, id(1))
	w.settle()
	w.want("after", 2, 3)
}

func TestDeadRelaysDoNotHoldUpLiving(t *testing.T) {
	w := newWorld(t, 2)
	for i := range 4 {
		w.dead[id(i+1)] = true
	}
	w.know(FromNetwork, 10*ms, 10*ms, 10*ms, 10*ms, 50*ms, 60*ms)
	w.run(5 * time.Second)
	w.want("living", 5, 6)
}

func TestSilentHomeIsReplacedOnlyIfAnotherIsHeard(t *testing.T) {
	w := newWorld(t, 2)
	w.know(FromNetwork, 10*ms, 20*ms)
	for i := range 2 { // this host lost its network
		w.dead[id(i+1)] = true
		w.m.Ails(w.now, id(i+1), Silent)
		w.settle()
	}
	w.run(time.Minute)
	w.want("all silent", 1, 2)
	if len(w.regs) != 2 || w.check == 0 {
		t.Errorf("registrations %v, %d checks", w.regs, w.check)
	}
	w.dead[id(2)] = false
	w.m.Heard(w.now, id(2), 20*ms)
	w.m.Ails(w.now, id(2), Well)
	w.settle()
	w.run(200 * ms)
	w.want("one came back", 2)
	if w.regs[id(1)] {
		t.Error("the silent one is still registered at")
	}
}

func TestLossyHome(t *testing.T) {
	w := newWorld(t, 1)
	w.know(FromNetwork, 10*ms)
	w.m.Ails(w.now, id(1), Lossy)
	w.settle()
	w.run(time.Minute)
	w.want("better than none", 1)
	w.know(FromRelay, 90*ms)
	w.run(200 * ms)
	w.want("there is another", 2)
	asked := w.asked[id(1)]
	w.run(2 * time.Minute)
	if w.asked[id(1)] != asked {
		t.Error("the lossy relay was asked again so soon")
	}
}

func TestRefusedIsLeftAlone(t *testing.T) {
	w := newWorld(t, 2)
	w.busy[id(1)] = true
	w.know(FromNetwork, 10*ms, 20*ms)
	w.want("the other", 2)
	w.run(30 * time.Second)
	if w.asked[id(1)] != 1 {
		t.Errorf("asked %d times within 30 s", w.asked[id(1)])
	}
	w.run(24 * time.Hour)
	if n := w.asked[id(1)]; n < 10 || n > 60 {
		t.Errorf("asked %d times within a day", n)
	}
}

func TestAloneIsQuiet(t *testing.T) {
	w := newWorld(t, 3)
	w.dead[id(1)] = true
	w.know(FromNetwork, 10*ms)
	w.run(time.Minute)
	early := w.asked[id(1)]
	w.run(time.Hour)
	if n := w.asked[id(1)] - early; n > 20 || n < 8 {
		t.Errorf("asked %d times within an hour", n)
	}
	w.dead[id(1)] = false
	w.m.Moved(w.now)
	w.run(time.Second)
	w.want("after a move", 1)
}

func TestRestartedHomeIsNotUntold(t *testing.T) {
	w := newWorld(t, 3)
	w.know(FromNetwork, 10*ms)
	w.dead[id(1)] = true
	w.m.Failed(w.now, id(1))
	w.settle()
	w.run(1500 * ms)
	w.want("just now", 1)
	w.dead[id(1)] = false
	w.run(8 * time.Second)
	w.want("back", 1)
	if w.told != 1 {
		t.Errorf("told %d times", w.told)
	}
	w.dead[id(1)] = true
	w.m.Failed(w.now, id(1))
	w.settle()
	w.run(30 * time.Second)
	w.want("gone")
}

func TestKnownIsBounded(t *testing.T) {
	m := New(Config{})
	now := time.Unix(1, 0)
	m.Know(now, id(0), FromNetwork)
	for i := range 10_000 {
		m.Know(now, identity.NodeID{byte(i), byte(i >> 8), 2}, FromRecord)
	}
	if len(m.relays) > MaxKnown {
		t.Errorf("%d relays", len(m.relays))
	}
	m.Know(now, id(9), FromNetwork)
	if m.find(id(9)) == nil || m.find(id(0)) == nil {
		t.Error("hearsay keeps out what the network's file says")
	}
}

// TestRandomLives throws everything at the machine: it stays within its bounds, its
// deadlines lie ahead, and where there are relays that work it ends up with them.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t, 1+random.IntN(3))
			for range 60 {
				n := id(1 + random.IntN(max(1, len(w.rtt))))
				switch random.IntN(8) {
				case 0:
					w.know(Source(random.IntN(3)), time.Duration(1+random.IntN(200))*ms)
				case 1:
					w.dead[n] = random.IntN(2) == 0
				case 2:
					w.m.Failed(w.now, n)
				case 3:
					w.m.Ails(w.now, n, Ailment(random.IntN(3)))
				case 4:
					w.busy[n] = random.IntN(4) == 0
				case 5:
					w.m.Moved(w.now)
				case 6:
					w.m.Refused(w.now, n, time.Duration(random.IntN(100))*time.Second)
				}
				w.settle()
				w.run(time.Duration(random.IntN(3000)) * ms)
				if len(w.homes) > w.m.want {
					t.Fatalf("homes %v", w.homes)
				}
			}
			clear(w.dead)
			clear(w.busy)
			for n := range w.rtt {
				w.m.Ails(w.now, n, Well)
			}
			w.m.Moved(w.now)
			w.run(2 * time.Hour)
			if want := min(w.m.want, len(w.rtt)); len(w.homes) != want || len(w.regs) < want {
				t.Errorf("homes %v, registrations %v, want %d", w.homes, w.regs, want)
			}
		})
	}
}
