package path

import (
	"fmt"
	"net/netip"
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
