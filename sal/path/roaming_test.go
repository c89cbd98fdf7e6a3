package path

import (
	"slices"
	"testing"
	"time"
)

// TestManyMoves has hosts move again and again, every time to addresses never seen
// before: what the addresses of before leave behind must not get in the way.
func TestManyMoves(t *testing.T) {
	for _, tc := range []struct {
		name  string
		move  []int
		every time.Duration
		most  time.Duration
	}{
		{"client", []int{0}, 2 * time.Second, 20 * time.Millisecond},
		{"provider", []int{1}, 2 * time.Second, 20 * time.Millisecond},
		{"both", []int{0, 1}, 2 * time.Second, 500 * time.Millisecond},
		{"both, hasty", []int{0, 1}, 600 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _, _ := calm(t, 4*time.Millisecond)
			var gaps []time.Duration
			for range 100 {
				for _, i := range tc.move {
					replaceLinks(s.hosts[i], 4*time.Millisecond)
					calmLink(s.hosts[i], s.hosts[i].addLink(true), 4*time.Millisecond)
				}
				for _, i := range tc.move {
					s.hosts[i].announce()
				}
				gaps = append(gaps, until(t, s, 10*time.Second, agreed(s)))
				s.run(tc.every)
			}
			slices.Sort(gaps)
			t.Logf("median %v, p95 %v, most %v", gaps[50], gaps[95], gaps[99])
			if gaps[99] > tc.most {
				t.Errorf("most %v, want at most %v", gaps[99], tc.most)
			}
			for _, h := range s.hosts {
				if n := len(h.m.pairs); n > 40 {
					t.Errorf("%s probes %d pairs", h.name, n)
				}
			}
		})
	}
}

// TestFirstRoundTripMisleads has the first packets to a new address wait for the
// neighbour discovery of a router on the way. What was measured then must not slow
// down what comes after.
func TestFirstRoundTripMisleads(t *testing.T) {
	s, a, _ := calm(t, 4*time.Millisecond)
	replaceLinks(a, time.Second)
	a.announce()
	until(t, s, 5*time.Second, agreed(s))
	calmLink(a, a.links[0], 4*time.Millisecond)
	for _, wait := range []time.Duration{0, 5 * time.Second} {
		s.run(wait)
		for _, h := range s.hosts {
			replaceLinks(h, 4*time.Millisecond)
		}
		for _, h := range s.hosts {
			h.announce()
		}
		if gap := until(t, s, 10*time.Second, agreed(s)); gap > 500*time.Millisecond {
			t.Errorf("both moved after %v: gap %v", wait, gap)
		}
	}
}

func TestRoundTripBegin(t *testing.T) {
	var r roundTrip
	now := time.Unix(1_700_000_000, 0)
	for _, tc := range []struct{ sample, smooth time.Duration }{
		{time.Second, time.Second},
		{10 * time.Millisecond, 10 * time.Millisecond},
		{26 * time.Millisecond, 12 * time.Millisecond},
		{4 * time.Millisecond, 4 * time.Millisecond},
		{2 * time.Millisecond, 3750 * time.Microsecond}, // from here on as RFC 6298
		{43750 * time.Microsecond, 8750 * time.Microsecond},
	} {
		r.add(now, tc.sample)
		if r.smooth != tc.smooth {
			t.Errorf("after %v: %v, want %v", tc.sample, r.smooth, tc.smooth)
		}
	}
}

// TestOneReturns has both move with nobody to ask where the other is. They meet
// again once one of them is back at an address the other knows.
func TestOneReturns(t *testing.T) {
	for _, away := range []time.Duration{10 * time.Second, 3 * time.Minute, 14 * time.Minute} {
		for i := range 2 {
			t.Run(away.String(), func(t *testing.T) {
				s, _, _ := calm(t, 4*time.Millisecond)
				s.net.recordsDown = true
				home := s.hosts[i].links
				for _, h := range s.hosts {
					replaceLinks(h, 4*time.Millisecond)
				}
				for _, h := range s.hosts {
					h.announce()
				}
				s.run(away)
				if ok, _ := s.mirrored(false); ok {
					t.Fatal("they met although nobody knew where")
				}
				s.hosts[i].links = home
				s.hosts[i].announce()
				gap := until(t, s, 20*time.Second, agreed(s))
				t.Logf("gap %v", gap)
				if gap > 6*time.Second {
					t.Errorf("gap %v", gap)
				}
			})
		}
	}
}
