package path

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// behind is a calm world with relays in which each host has one link behind a NAT of
// the kind given, nil for none. The relay is 5 ms from the links, these 10 ms from one
// another.
func behind(t *testing.T, seed uint64, a, b *natKind, timeout time.Duration) *simulator {
	t.Helper()
	s := newWorld(seed, guards{}, true)
	if testing.Verbose() {
		s.trace, s.traceMessages = t.Logf, *messagesFlag
	}
	s.net.legMost = 20 * time.Millisecond
	for i, kind := range []*natKind{a, b} {
		h := s.hosts[i]
		h.busy = true
		h.links = nil
		l := h.addLink(false)
		h.natLink(l, kind, timeout)
		h.announce()
	}
	for _, r := range s.relays {
		r.delay = 5 * time.Millisecond
	}
	t.Cleanup(func() {
		if s.fault != nil {
			t.Error(s.fault)
		}
	})
	return s
}

func (h *simHost) natLink(l *simLink, kind *natKind, timeout time.Duration) {
	calmLink(h, l, 10*time.Millisecond)
	l.nat, l.cost = nil, CostNone
	if kind != nil {
		l.nat = h.newNAT(l, *kind, timeout)
	}
	l.reflexive = netip.AddrPort{}
	if l.nat != nil {
		l.external = netip.AddrPort{}
	}
}

func (s *simulator) direct() bool {
	ok, _ := s.mirrored(false)
	return ok && !IsRelayed(s.hosts[0].used.Route.Remote)
}

// TestNATKinds starts on a relay and ends direct wherever theory allows, soon; and on
// the relay elsewhere, without ever stopping to work.
func TestNATKinds(t *testing.T) {
	cone, restricted, symmetric := natCone, natRestricted, natSymmetric
	kinds := []struct {
		name string
		kind *natKind
	}{{"none", nil}, {"full cone", &cone}, {"port restricted", &restricted}, {"symmetric", &symmetric}}
	for _, a := range kinds {
		for _, b := range kinds {
			for _, loss := range []float64{0, 0.1} {
				t.Run(fmt.Sprintf("%s, %s, loss %v", a.name, b.name, loss), func(t *testing.T) {
					s := behind(t, 1, a.kind, b.kind, 20*time.Second)
					s.net.loss = loss
					_, want := s.cheapest()
					if want {
						took := until(t, s, 40*time.Second, s.direct)
						t.Logf("direct after %v", took)
						if loss == 0 && took > time.Second {
							t.Errorf("direct after %v", took)
						}
					}
					s.run(2 * time.Minute)
					if ok, why := s.mirrored(false); !ok {
						t.Error(why)
					}
					if got := s.direct(); loss == 0 && got != want {
						t.Errorf("direct: %v, want %v (%s)", got, want, s.hosts[0].m.Info().Why)
					}
				})
			}
		}
	}
}

// settle runs until the direct path is in use, or some seconds if there is none.
func settle(t *testing.T, s *simulator) {
	t.Helper()
	if _, ok := s.cheapest(); ok {
		until(t, s, 10*time.Second, s.direct)
	}
	s.run(3 * time.Second)
}

// ticker sends data from each host every 2 ms and returns how many went and came. It
// stops when told.
func ticker(s *simulator) (count func() (sent, got int), stop func()) {
	running := true
	for _, h := range s.hosts {
		h.busy = false
		h.data.sent, h.data.got = 0, 0
		var tick func()
		tick = func() {
			if running {
				h.sendData()
				s.after(2*time.Millisecond, tick)
			}
		}
		tick()
	}
	return func() (sent, got int) {
		for _, h := range s.hosts {
			sent, got = sent+h.data.sent, got+h.data.got
		}
		return sent, got
	}, func() { running = false }
}

// TestUpgradeLosesNothing goes from the relay to a direct path under a 2 ms ticker in
// both directions.
func TestUpgradeLosesNothing(t *testing.T) {
	restricted, symmetric, cone := natRestricted, natSymmetric, natCone
	for _, tc := range []struct {
		name string
		a, b *natKind
	}{
		{"both restricted", &restricted, &restricted},
		{"full cone to symmetric", &cone, &symmetric},
		{"symmetric to full cone", &symmetric, &cone},
		{"none to symmetric", nil, &symmetric},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(20) {
				s := behind(t, seed, tc.a, tc.b, 20*time.Second)
				s.run(100 * time.Millisecond) // the ways to the relay
				count, stop := ticker(s)
				until(t, s, 10*time.Second, s.direct)
				s.run(2 * time.Second)
				stop()
				s.run(100 * time.Millisecond)
				// Resent datagrams come in addition.
				if sent, got := count(); got < sent {
					t.Errorf("seed %d: %d of %d lost", seed, sent-got, sent)
				}
			}
		})
	}
}

// TestRelayTakesOver has the direct path fall silent under a ticker.
func TestRelayTakesOver(t *testing.T) {
	restricted := natRestricted
	s := behind(t, 1, &restricted, &restricted, time.Minute)
	settle(t, s)
	// The NATs drop what is direct; the relay is reached all the same.
	for _, h := range s.hosts {
		h.links[0].nat.reset()
		h.links[0].nat.kind = natSymmetric
	}
	gap := until(t, s, 5*time.Second, agreed(s))
	t.Logf("on the relay after %v", gap)
	if gap > 300*time.Millisecond {
		t.Errorf("on the relay after %v", gap)
	}
}

// TestBackupTakesOver has the link in use fall silent while a backup stands by, and
// come back.
func TestBackupTakesOver(t *testing.T) {
	for i, name := range []string{"initiator's", "responder's"} {
		t.Run(name, func(t *testing.T) {
			s := behind(t, 1, nil, nil, 0)
			h := s.hosts[i]
			backup := h.addLink(false)
			h.natLink(backup, nil, 0)
			backup.delay /= 2 // faster, and still not used
			backup.cost = CostBackup
			h.announce()
			settle(t, s)
			first := h.links[0]
			if got := h.linkOf(h.used.Route.Link); got != first {
				t.Fatalf("uses %v, which is the backup", h.used.Route)
			}
			if !h.used.HasSecond || h.linkOf(h.used.Second.Link) != backup {
				t.Errorf("no second path: %+v", h.used)
			}
			moves := h.moves
			first.silent = true
			gap := until(t, s, 2*time.Second, func() bool { return agreed(s)() && h.linkOf(h.used.Route.Link) == backup })
			t.Logf("on the backup after %v", gap)
			if gap > 250*time.Millisecond {
				t.Errorf("on the backup after %v", gap)
			}
			s.run(5 * time.Second)
			first.silent = false
			back := until(t, s, 40*time.Second, func() bool { return agreed(s)() && h.linkOf(h.used.Route.Link) == first })
			t.Logf("back after %v", back)
			s.run(10 * time.Second)
			if n := h.moves - moves; n != 2 {
				t.Errorf("%d moves, want one there and one back", n)
			}
		})
	}
}

// TestFlappingLink has the preferred link work for 3 s and be silent for 3 s, for ten
// minutes, beside a backup.
func TestFlappingLink(t *testing.T) {
	s := behind(t, 1, nil, nil, 0)
	h := s.hosts[0]
	backup := h.addLink(false)
	h.natLink(backup, nil, 0)
	backup.cost = CostBackup
	h.announce()
	settle(t, s)
	moves := h.moves
	for range 100 {
		h.links[0].silent = !h.links[0].silent
		s.run(3 * time.Second)
	}
	n := h.moves - moves
	t.Logf("%d moves while the link failed 50 times", n)
	if n > 24 {
		t.Errorf("%d moves while the link failed 50 times", n)
	}
	h.links[0].silent = false
	until(t, s, trustMost+time.Minute, func() bool { return agreed(s)() && h.linkOf(h.used.Route.Link) == h.links[0] })
}

// TestMeteredIsSpared sends next to nothing over a metered link while another works,
// and uses it when that fails.
func TestMeteredIsSpared(t *testing.T) {
	for i, name := range []string{"initiator's", "responder's"} {
		t.Run(name, func(t *testing.T) {
			s := behind(t, 1, nil, nil, 0)
			h := s.hosts[i]
			metered := h.addLink(false)
			h.natLink(metered, nil, 0)
			metered.cost = CostMetered
			h.announce()
			settle(t, s)
			before := metered.carried
			s.run(10 * time.Minute)
			if n := metered.carried - before; n > 4 {
				t.Errorf("%d packets over a metered link in ten minutes", n)
			}
			if h.used.HasSecond {
				t.Errorf("copies go over %v", h.used.Second)
			}
			h.links[0].silent = true
			gap := until(t, s, 5*time.Second, func() bool { return agreed(s)() && h.linkOf(h.used.Route.Link) == metered })
			t.Logf("on the metered link after %v", gap)
			h.links[0].silent = false
			until(t, s, time.Minute, func() bool { return agreed(s)() && h.linkOf(h.used.Route.Link) == h.links[0] })
		})
	}
}

// TestHopelessPunching counts what goes to unproved addresses when both NATs are
// symmetric: rounds ever further apart, and a fresh one when the network changes.
func TestHopelessPunching(t *testing.T) {
	symmetric := natSymmetric
	s := behind(t, 1, &symmetric, &symmetric, 2*time.Minute)
	a := s.hosts[0]
	s.run(10 * time.Second)
	var counts []int
	for range 6 {
		before := a.probes
		s.run(5 * time.Minute)
		counts = append(counts, a.probes-before)
	}
	t.Logf("probes in 5 minutes each: %v", counts)
	if counts[0] > 60 || counts[5] > 15 || counts[5] == 0 {
		t.Errorf("probes in 5 minutes each: %v", counts)
	}
	if why := a.m.Info().Why; why != "relayed: no direct address answers" {
		t.Errorf("why: %s", why)
	}
	// The network changes: at once again, at both ends.
	for i := range s.hosts {
		a, b := s.hosts[i].probes, s.hosts[1-i].probes
		replaced := s.hosts[i]
		replaced.links = nil
		replaced.natLink(replaced.addLink(false), &symmetric, 2*time.Minute)
		replaced.announce()
		s.run(3 * time.Second)
		if s.hosts[i].probes == a || s.hosts[1-i].probes == b {
			t.Error("no fresh round")
		}
	}
	if s.direct() {
		t.Error("direct between two symmetric NATs")
	}
}

// TestShortMappings has both NATs forget after 20 s, and the hosts say nothing: after a
// few losses the keep-alives must come often enough.
func TestShortMappings(t *testing.T) {
	restricted := natRestricted
	s := behind(t, 1, &restricted, &restricted, 20*time.Second)
	settle(t, s)
	for _, h := range s.hosts {
		h.busy = false
	}
	s.run(5 * time.Minute)
	moves := s.hosts[0].moves
	direct := 0
	for range 600 {
		s.run(time.Second)
		if s.direct() {
			direct++
		}
	}
	t.Logf("direct for %d of 600 s, %d moves, keep-alives every %v and %v", direct, s.hosts[0].moves-moves, s.hosts[0].m.keepAlive, s.hosts[1].m.keepAlive)
	if direct < 590 {
		t.Errorf("direct for %d of 600 s", direct)
	}
}

// TestBlackoutDoesNotSpin has everything fail at once: the machine tries what stands
// by once, not again and again.
func TestBlackoutDoesNotSpin(t *testing.T) {
	restricted := natRestricted
	s := behind(t, 1, &restricted, &restricted, 2*time.Minute)
	settle(t, s)
	moves := s.hosts[0].moves
	s.net.blackout = true
	s.run(20 * time.Second)
	if n := s.hosts[0].moves - moves; n > 2 {
		t.Errorf("%d moves in a blackout", n)
	}
	s.net.blackout = false
	until(t, s, 5*time.Second, agreed(s))
	until(t, s, 20*time.Second, s.direct)
}

// TestRelayDies has the relay in use die while both ends have another in common.
func TestRelayDies(t *testing.T) {
	symmetric := natSymmetric
	var gaps []time.Duration
	for seed := range uint64(20) {
		s := behind(t, seed, &symmetric, &symmetric, 2*time.Minute)
		for _, h := range s.hosts {
			h.homes = []int{0, 1}
			s.relays[1].registered[h.index()] = true
			h.step(RelaysAdvertised{Relays: h.homeIDs()})
		}
		s.run(5 * time.Second)
		used := s.hosts[0].relayOf(s.hosts[0].used.Route.Remote)
		s.failRelay(used, time.Minute)
		gaps = append(gaps, until(t, s, 5*time.Second, agreed(s)))
	}
	slices.Sort(gaps)
	t.Logf("median %v, most %v", gaps[10], gaps[19])
	if gaps[19] > 500*time.Millisecond {
		t.Errorf("most %v", gaps[19])
	}
}

// TestBothMoveBehindNATs has both ends change their networks at the same time. The
// relay is the place that does not move.
func TestBothMoveBehindNATs(t *testing.T) {
	restricted, symmetric := natRestricted, natSymmetric
	for _, loss := range []float64{0, 0.1} {
		t.Run(fmt.Sprintf("loss %v", loss), func(t *testing.T) {
			s := behind(t, 1, &restricted, &restricted, 2*time.Minute)
			settle(t, s)
			s.net.loss = loss
			var gaps []time.Duration
			for i := range 100 {
				kinds := []*natKind{nil, &restricted, &symmetric}
				for j, h := range s.hosts {
					h.links = nil
					h.natLink(h.addLink(false), kinds[(i+j*i)%3], 2*time.Minute)
				}
				for _, h := range s.hosts {
					h.announce()
				}
				gaps = append(gaps, until(t, s, 10*time.Second, agreed(s)))
				s.run(4 * time.Second)
			}
			slices.Sort(gaps)
			t.Logf("median %v, p95 %v, most %v", gaps[50], gaps[95], gaps[99])
			if gaps[95] > time.Duration(150+1500*loss)*time.Millisecond {
				t.Errorf("p95 %v", gaps[95])
			}
		})
	}
}

// TestStallMovesNothing has the peer answer nothing on any path for a fifth of a second,
// as a busy host does: there is nothing to move to, and nothing to search for.
func TestStallMovesNothing(t *testing.T) {
	restricted := natRestricted
	s := behind(t, 1, &restricted, &restricted, 2*time.Minute)
	settle(t, s)
	before := s.hosts[0].m.Metrics()
	for range 20 {
		s.net.blackout = true
		s.run(200 * time.Millisecond)
		s.net.blackout = false
		s.run(2 * time.Second)
	}
	after := s.hosts[0].m.Metrics()
	if after.Moves != before.Moves || after.Searches != before.Searches {
		t.Errorf("%d moves and %d searches", after.Moves-before.Moves, after.Searches-before.Searches)
	}
}

// TestLossMovesNothing has a tenth of all packets lost for ten minutes while the relay
// stands by: silence is noticed sooner then, but must not be seen where there is none.
func TestLossMovesNothing(t *testing.T) {
	restricted := natRestricted
	s := behind(t, 1, &restricted, &restricted, 2*time.Minute)
	settle(t, s)
	s.net.loss = 0.1
	moves := s.hosts[0].moves
	s.run(10 * time.Minute)
	if n := s.hosts[0].moves - moves; n > 8 {
		t.Errorf("%d moves in ten minutes", n)
	}
}

// TestDataDuringKeepAlive has the path be dead when a keep-alive goes, for which nobody
// hurries, and data follow at once, for which somebody waits.
func TestDataDuringKeepAlive(t *testing.T) {
	s := behind(t, 1, nil, nil, 0)
	settle(t, s)
	a := s.hosts[0]
	for _, h := range s.hosts {
		h.busy = false
	}
	s.run(20 * time.Second)
	before := a.m.Metrics().Sent
	for _, h := range s.hosts {
		// Only the relay is reached any more.
		nat := h.newNAT(h.links[0], natSymmetric, time.Minute)
		h.links[0].nat = nat
		nat.out(relayAddress)
	}
	until(t, s, 30*time.Second, func() bool { return a.m.mode == checking })
	t.Logf("%d messages before", a.m.Metrics().Sent-before)
	for _, h := range s.hosts {
		h.busy = true
	}
	a.sendData()
	if gap := until(t, s, 5*time.Second, agreed(s)); gap > 400*time.Millisecond {
		t.Errorf("on the relay after %v", gap)
	}
}
