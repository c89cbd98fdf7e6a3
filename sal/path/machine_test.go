package path

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// calm is a simulator without random disturbances, and its two hosts, each with
// one link of the given one-way delay.
func calm(t *testing.T, delay time.Duration) (s *simulator, a, b *simHost) {
	t.Helper()
	s = newSimulator(1, guards{})
	if testing.Verbose() {
		s.trace, s.traceMessages = t.Logf, *messagesFlag
	}
	for _, h := range s.hosts {
		h.busy = true
		for _, l := range h.links {
			calmLink(h, l, delay)
		}
	}
	s.run(3 * time.Second)
	if ok, why := s.mirrored(true); !ok {
		t.Fatalf("not in agreement at the start: %s", why)
	}
	t.Cleanup(func() {
		if s.fault != nil {
			t.Error(s.fault)
		}
	})
	return s, s.hosts[0], s.hosts[1]
}

func calmLink(h *simHost, l *simLink, delay time.Duration) {
	l.delay, l.mtu = delay/2, 1500
	l.external = netip.AddrPortFrom(l.link.Local, simPort)
	h.ever[l.external] = true
}

// until runs until ok, and returns how long that took.
func until(t *testing.T, s *simulator, most time.Duration, ok func() bool) time.Duration {
	t.Helper()
	start := s.now
	for !ok() {
		if s.now.Sub(start) > most {
			_, why := s.mirrored(false)
			t.Fatalf("not within %v (%s)", most, why)
		}
		s.run(time.Millisecond)
	}
	return s.now.Sub(start)
}

func agreed(s *simulator) func() bool {
	return func() bool { ok, _ := s.mirrored(false); return ok }
}

func TestMoveGap(t *testing.T) {
	for _, tc := range []struct {
		name  string
		delay time.Duration
		move  []int
		most  time.Duration
	}{
		{"client", 0, []int{0}, 5 * time.Millisecond},
		{"provider", 0, []int{1}, 5 * time.Millisecond},
		{"both", 0, []int{0, 1}, 400 * time.Millisecond},
		{"client, 40 ms away", 40 * time.Millisecond, []int{0}, 2*80*time.Millisecond + 5*time.Millisecond},
		{"provider, 40 ms away", 40 * time.Millisecond, []int{1}, 2*80*time.Millisecond + 5*time.Millisecond},
		{"both, 40 ms away", 40 * time.Millisecond, []int{0, 1}, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _, _ := calm(t, tc.delay)
			for _, i := range tc.move {
				replaceLinks(s.hosts[i], tc.delay)
			}
			for _, i := range tc.move {
				s.hosts[i].announce()
			}
			resends := s.hosts[0].resends + s.hosts[1].resends
			gap := until(t, s, 5*time.Second, agreed(s))
			t.Logf("gap %v", gap)
			if gap > tc.most {
				t.Errorf("gap %v, want at most %v", gap, tc.most)
			}
			if n := s.hosts[0].resends + s.hosts[1].resends - resends; n < 2 {
				t.Errorf("%d resends asked for, want one at each end", n)
			}
		})
	}
}

// TestMakeBeforeBreak drops the link in use while another stands by: both ends
// must go on at once, the dropping one in the same step.
func TestMakeBeforeBreak(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	calmLink(a, a.addLink(false), 10*time.Millisecond)
	a.announce()
	s.run(3 * time.Second)
	inUse := a.used.Route.Link
	a.links = slices.DeleteFunc(a.links, func(l *simLink) bool { return l.link == inUse })
	a.announce()
	if a.used.Route.Link == inUse || !a.used.Resend {
		t.Fatalf("still uses %v", a.used)
	}
	if gap := until(t, s, time.Second, agreed(s)); gap > 25*time.Millisecond {
		t.Errorf("the peer followed after %v", gap)
	}
	s.run(5 * time.Second)
	if a.moves != 1 || b.moves != 1 {
		t.Errorf("%d and %d moves, want one each", a.moves, b.moves)
	}
}

func TestSilenceIsNoticed(t *testing.T) {
	s, a, _ := calm(t, 10*time.Millisecond)
	calmLink(a, a.addLink(false), 10*time.Millisecond)
	a.announce()
	s.run(3 * time.Second)
	a.linkOf(a.used.Route.Link).silent = true
	if gap := until(t, s, 5*time.Second, agreed(s)); gap > 600*time.Millisecond {
		t.Errorf("moved after %v", gap)
	}
}

func TestBlackout(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 20 * time.Second, 11 * time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			s, a, b := calm(t, 10*time.Millisecond)
			s.net.blackout = true
			s.run(length)
			if !a.m.Info().Lost || !b.m.Info().Lost {
				t.Error("a blackout went unnoticed")
			}
			s.net.blackout = false
			resends := a.resends
			gap := until(t, s, 5*time.Second, agreed(s))
			t.Logf("back after %v, resolved %d times", gap, a.resolves)
			if most := max(length/8, 250*time.Millisecond) + 50*time.Millisecond; gap > most {
				t.Errorf("back after %v, want at most %v", gap, most)
			}
			if a.resends == resends {
				t.Error("nothing was sent again")
			}
			if a.resolves == 0 || a.resolves > 10+int(length/resolveMost) {
				t.Errorf("%d times resolved", a.resolves)
			}
		})
	}
}

// TestBlackoutEndsWithBothMoved has both ends come back elsewhere, which only the
// records tell.
func TestBlackoutEndsWithBothMoved(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	for _, h := range s.hosts {
		h.links = nil
		h.announce()
	}
	s.run(11 * time.Minute)
	if a.dead || b.dead {
		t.Fatal("gave up")
	}
	for _, h := range s.hosts {
		replaceLinks(h, 10*time.Millisecond)
		h.announce()
	}
	if gap := until(t, s, 20*time.Second, agreed(s)); gap > time.Second {
		t.Errorf("back after %v", gap)
	}
}

func TestDeath(t *testing.T) {
	for _, tc := range []struct {
		name        string
		sessions    bool
		least, most time.Duration
	}{
		{"with sessions", true, 15 * time.Minute, 16 * time.Minute},
		{"without", false, time.Minute, 2 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, a, _ := calm(t, 10*time.Millisecond)
			a.step(SessionsOpen{Open: tc.sessions})
			s.net.blackout = true
			died := until(t, s, 20*time.Minute, func() bool { return a.dead })
			if died < tc.least || died > tc.most {
				t.Errorf("dead after %v", died)
			}
			if !a.m.Deadline().IsZero() {
				t.Error("the dead have a deadline")
			}
			a.step(Resumed{})
			if got := a.m.Take(); got != nil {
				t.Errorf("the dead act: %v", got)
			}
		})
	}
}

func TestKeepAlive(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	a.busy, b.busy = false, false
	s.run(time.Minute)
	sent := a.m.Metrics().Sent
	s.run(10 * time.Minute)
	if n := int(a.m.Metrics().Sent - sent); n < 20 || n > 100 {
		t.Errorf("%d messages in 10 idle minutes with sessions", n)
	}
	a.step(SessionsOpen{Open: false})
	b.step(SessionsOpen{Open: false})
	s.run(time.Minute)
	sent = a.m.Metrics().Sent + b.m.Metrics().Sent
	s.run(time.Hour)
	if n := a.m.Metrics().Sent + b.m.Metrics().Sent - sent; n > 4 {
		t.Errorf("%d messages in an idle hour without sessions", n)
	}
	a.step(SessionsOpen{Open: true})
	b.step(SessionsOpen{Open: true})
	a.busy = true
	s.run(5 * time.Second)
	if ok, why := s.mirrored(false); !ok {
		t.Error(why)
	}
}

func TestPathMTU(t *testing.T) {
	for _, mtu := range []int{1124, 1280, 1400, 1428, 1500} {
		s, a, b := calm(t, 10*time.Millisecond)
		replaceLinks(a, 10*time.Millisecond)
		a.links[0].mtu = mtu
		a.announce()
		until(t, s, time.Second, agreed(s))
		if a.used.MTU > mtu || b.used.MTU > mtu {
			t.Errorf("MTU %d and %d at once on a path of %d", a.used.MTU, b.used.MTU, mtu)
		}
		s.run(5 * time.Second)
		if a.used.MTU != mtu || b.used.MTU != mtu {
			t.Errorf("MTU %d and %d on a path of %d", a.used.MTU, b.used.MTU, mtu)
		}
	}
}

// TestBlackHole narrows the path under load: what fits still gets through, so only
// the unanswered data tells.
func TestBlackHole(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	a.links[0].mtu = 1280
	took := until(t, s, 5*time.Second, func() bool { return a.used.MTU <= 1280 && b.used.MTU <= 1280 })
	t.Logf("noticed after %v", took)
	if took > 1500*time.Millisecond {
		t.Errorf("noticed after %v", took)
	}
	s.run(5 * time.Second)
	if a.used.MTU != 1280 || b.used.MTU != 1280 {
		t.Errorf("MTU %d and %d on a path of 1280", a.used.MTU, b.used.MTU)
	}
	a.links[0].mtu = 1500
	s.run(11 * time.Minute)
	if a.used.MTU != 1500 || b.used.MTU != 1500 {
		t.Errorf("MTU %d and %d on a path of 1500 again", a.used.MTU, b.used.MTU)
	}
}

// TestBlackHoleOneWay narrows the path while the peer's small packets still come.
func TestBlackHoleOneWay(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	b.busy = false
	var chatter func()
	chatter = func() {
		b.sent = s.now
		a.got = s.now
		a.noteSoon()
		s.after(50*time.Millisecond, chatter)
	}
	chatter()
	a.links[0].mtu = 1280
	took := until(t, s, 20*time.Second, func() bool { return a.used.MTU == 1280 })
	t.Logf("noticed after %v", took)
}

// TestDataLostInABurst has a path lose data and a challenge, and answer the next: the
// data goes again at once, since QUIC's own timers may have backed off, but not for
// ever when nobody has anything to answer.
func TestDataLostInABurst(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	a.busy, b.busy = false, false
	s.run(2 * time.Second)
	before, moves := a.resends, a.m.Metrics().Searches
	s.net.loss = 1
	a.sent = s.now
	a.noteSoon()
	s.run(silenceLeast + 15*time.Millisecond)
	s.net.loss = 0
	took := until(t, s, time.Second, func() bool { return a.resends > before })
	t.Logf("sent again %v after the burst", took)
	s.run(time.Minute)
	if n := a.resends - before; n > maxReminders {
		t.Errorf("sent again %d times", n)
	}
	if a.m.Metrics().Searches != moves {
		t.Error("the path was taken for lost")
	}
}

func TestTooBig(t *testing.T) {
	s, a, _ := calm(t, 10*time.Millisecond)
	if a.used.MTU != 1500 {
		t.Fatalf("MTU %d", a.used.MTU)
	}
	a.links[0].mtu = 1400
	a.step(TooBig{Route: a.used.Route, Size: 1428})
	if a.used.MTU >= 1428 || !a.used.Resend {
		t.Errorf("uses %+v", a.used)
	}
	s.run(2 * time.Second)
	if a.used.MTU != 1400 {
		t.Errorf("MTU %d on a path of 1400", a.used.MTU)
	}
}

func TestSendFailed(t *testing.T) {
	s, a, _ := calm(t, 10*time.Millisecond)
	calmLink(a, a.addLink(false), 10*time.Millisecond)
	a.announce()
	s.run(3 * time.Second)
	before := a.used.Route
	a.linkOf(before.Link).silent = true
	a.step(SendFailed{Route: before})
	if a.used.Route == before {
		t.Errorf("still uses %v", before)
	}
	until(t, s, time.Second, agreed(s))
}

// TestFasterPath prefers a clearly faster link, once, and never flaps between two
// that are alike.
func TestFasterPath(t *testing.T) {
	s, a, b := calm(t, 40*time.Millisecond)
	calmLink(b, b.addLink(false), 38*time.Millisecond) // the responder's, hardly faster
	b.announce()
	s.run(time.Minute)
	if a.moves+b.moves != 0 {
		t.Errorf("%d moves to a path hardly faster", a.moves+b.moves)
	}
	fast := b.addLink(false)
	calmLink(b, fast, 2*time.Millisecond)
	b.announce()
	s.run(2 * time.Second)
	if b.used.Route.Link != fast.link || a.moves != 1 || b.moves != 1 {
		t.Errorf("b uses %v after %d and %d moves", b.used.Route, a.moves, b.moves)
	}
	for range 600 { // round trips wander
		for _, l := range b.links {
			l.delay = s.between(time.Millisecond, 20*time.Millisecond)
		}
		s.run(time.Second)
	}
	if a.moves > 12 {
		t.Errorf("%d moves in 10 minutes of wandering round trips", a.moves)
	}
}

// TestForwardedCopies has somebody on the way deliver everything from an address
// of theirs and answer for it (RFC 9000 §9.3.3): without a new generation the old
// path, which works, must be kept.
func TestForwardedCopies(t *testing.T) {
	s, a, b := calm(t, 10*time.Millisecond)
	// b believes that a has a NAT in front that changed its mind, while the old
	// mapping still works.
	forwarder := &simLink{link: a.links[0].link, delay: 5 * time.Millisecond, mtu: 1500}
	forwarder.external = victim(50)
	a.ever[forwarder.external] = true
	a.links = append(a.links, forwarder)
	before := b.used.Route
	var m message
	m.state = state{inUse: true, generation: a.m.generation, seen: a.m.toldSeq}
	m.addChallenge(challenge{nonce: 1})
	a.m.counter += 10
	b.receive(Route{Link: b.links[0].link, Remote: forwarder.external}, a.m.send.seal(a.m.counter, m.append(nil)), true)
	s.run(3 * time.Second)
	if b.used.Route != before || b.moves != 0 {
		t.Errorf("b moved from %v to %v", before, b.used.Route)
	}
	// When the old mapping is really gone, the new one is taken.
	a.links[0].external, a.links = forwarder.external, a.links[:1]
	until(t, s, 2*time.Second, agreed(s))
	if b.used.Route.Remote != forwarder.external {
		t.Errorf("b uses %v", b.used.Route)
	}
}

func TestObserved(t *testing.T) {
	s, a, _ := calm(t, time.Millisecond)
	s.run(time.Second)
	if got := a.m.current.observed; got != a.links[0].external {
		t.Errorf("observed as %v, want %v", got, a.links[0].external)
	}
}

// TestRebindingIsLearnt: a NAT gives other addresses while data flows, which the peer
// follows at once; the host behind it must hear of them soon, since others wait to be
// told.
func TestRebindingIsLearnt(t *testing.T) {
	s, a, _ := calm(t, 10*time.Millisecond)
	seen := func() bool { return a.m.current.observed == a.links[0].external }
	for range 5 {
		a.rebind(a.links[0])
		until(t, s, 30*time.Second, seen) // the first time it may be any keep-alive
		s.run(3 * time.Second)
		a.rebind(a.links[0])
		if took := until(t, s, 30*time.Second, seen); took > time.Second {
			t.Errorf("learnt after %v", took)
		}
		s.run(3 * time.Second)
	}
}

// TestUnknownAddress spends no more on an address than came from it and four small
// packets, and moves nowhere.
func TestUnknownAddress(t *testing.T) {
	s, a, _ := calm(t, time.Millisecond)
	before := a.used.Route
	for i := range 300 {
		stranger := Route{Link: a.links[0].link, Remote: victim(i % 100)}
		a.contact(stranger.Remote).credit += 3 * 50
		a.step(UnknownAddress{Route: stranger, Size: 50})
		s.run(10 * time.Millisecond)
	}
	if a.used.Route != before {
		t.Error("moved")
	}
	if n := len(a.m.addresses.entries); n > MaxAddresses {
		t.Errorf("%d addresses kept", n)
	}
	s.run(30 * time.Second)
	if n := len(a.m.pairs); n > 4 {
		t.Errorf("%d pairs kept", n)
	}
}

func TestTablesAreBounded(t *testing.T) {
	s, a, b := calm(t, time.Millisecond)
	var links []Link
	var remotes []netip.AddrPort
	for i := range 100 {
		links = append(links, Link{Local: netip.AddrFrom4([4]byte{10, 9, 9, byte(i)}), Interface: i})
		remotes = append(remotes, victim(i))
	}
	links[3] = b.links[0].link
	b.m.Step(s.now, LinksChanged{Links: links})
	b.m.Step(s.now, RemotesChanged{Remotes: remotes})
	b.m.Step(s.now, Advertised{Locators: remotes})
	b.m.Take()
	if n, most := len(b.m.pairs), maxLinks*maxRemotes+maxImplicit; n > most {
		t.Errorf("%d pairs, more than %d", n, most)
	}
	if n := len(b.m.addresses.entries); n > MaxAddresses {
		t.Errorf("%d addresses", n)
	}
	_ = a
}

func TestDroppingGarbageAllocatesNothing(t *testing.T) {
	s, a, b := calm(t, time.Millisecond)
	genuine := a.m.send.seal(1, state{}.append(nil)) // counter 1 was used long ago
	forged := slices.Clone(genuine)
	forged[16] = 0xff
	route := Route{Link: b.links[0].link, Remote: a.links[0].external}
	for name, datagram := range map[string][]byte{"replayed": genuine, "forged": forged, "garbage": genuine[:20]} {
		if n := testing.AllocsPerRun(100, func() {
			b.m.Step(s.now, Received{Route: route, Datagram: datagram})
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		b.m.Step(s.now, Traffic{LastSent: s.now, LastReceived: s.now})
	}); n != 0 {
		t.Errorf("a traffic note: %v allocations", n)
	}
	got := b.m.Metrics()
	if got.Replayed == 0 || got.Forged == 0 || got.Malformed == 0 {
		t.Errorf("not counted: %+v", got)
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{KeepAlive: 1, DeathTimeout: 1, IdleTimeout: 1}.Validate()
	if err == nil {
		t.Fatal("the zero Config is valid")
	}
	for _, want := range []string{"secret", "start", "first route", "keep-alive", "death", "idle"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q not reported in %v", want, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New takes it")
	}
}

// FuzzReceived gives a machine authentic messages with arbitrary content, and the
// same bytes as a datagram, from any address.
func FuzzReceived(f *testing.F) {
	for _, tc := range messageCases {
		var m message
		tc.make(&m)
		f.Add(m.append(nil), []byte{192, 0, 2, 1}, uint16(7000))
		remote := RelayRemote(testNode(1), testNode(2)).Addr().As16()
		f.Add(m.append(nil), remote[:], uint16(relayedPort))
		f.Add(m.append(nil), []byte{127, 0, 0, 1}, uint16(7000))
	}
	f.Fuzz(func(t *testing.T, plain, ip []byte, port uint16) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || len(plain) > 1500 {
			return
		}
		local := netip.MustParseAddr("10.0.0.1")
		now := time.Unix(1_700_000_000, 0)
		m, err := New(Config{
			Secret: testSecret(), Start: now,
			First: Route{Link: Link{Local: local}, Remote: netip.MustParseAddrPort("10.0.0.2:7000")},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Take()
		from := Route{Link: Link{Local: local}, Remote: netip.AddrPortFrom(addr, port)}
		m.Step(now, Received{Route: from, Datagram: m.receive.seal(1, plain)})
		m.Step(now, Received{Route: from, Datagram: plain})
		m.Step(now, UnknownAddress{Route: from, Size: int(port)})
		for range 20 {
			if at := m.Deadline(); !at.IsZero() {
				now = at
			}
			m.Step(now, Tick{})
		}
		for _, a := range m.Take() {
			if use, ok := a.(Use); ok && use.Route.Remote != netip.MustParseAddrPort("10.0.0.2:7000") {
				t.Errorf("moved to %v", use.Route)
			}
		}
	})
}
