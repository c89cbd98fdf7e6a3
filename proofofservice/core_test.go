package proofofservice

import (
	"errors"
	"slices"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// scene is a core in an epoch of ten minutes with three providers, whom it visits
// five times each.
type scene struct {
	*Core
	t     *testing.T
	epoch Epoch
	nodes []identity.PrivateKey
	keys  Keys
	now   time.Time
	mono  time.Duration
}

var begin = time.Unix(1_800_000_000, 0)

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, now: begin}
	var list []evidence.Provider
	for i := range 3 {
		node := identity.NewKeyFromSeed([32]byte{byte(i + 1)})
		s.nodes = append(s.nodes, node)
		list = append(list, evidence.Provider{Service: identity.ServiceID{byte(i)}, Node: node.Node(), Kinds: evidence.AllKinds, Class: evidence.Class(i % 2)})
	}
	roster, err := evidence.NewRoster(evidence.Rules{}.WithDefaults(), 1, list)
	if err != nil {
		t.Fatal(err)
	}
	s.epoch = Epoch{evidence.Frame{Network: identity.NetworkID{1}, Epoch: 7, Seed: evidence.Seed{2}, Roster: roster}, begin}
	s.keys = Keys{Account: identity.AccountID{3}, VRF: identity.NewKeyFromSeed([32]byte{4}), Rows: [32]byte{5}}
	s.Core, err = NewCore(s.keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// at lets the time come, by both clocks, and returns the visits that are due.
func (s *scene) at(now time.Time) []Visit {
	s.mono += now.Sub(s.now)
	s.now = now
	return s.Tick(now, s.mono, 100)
}

// pass returns a sighting of a visit that went well.
func (s *scene) pass(v Visit) Sighting {
	receipt := voucher.Receipt{Service: v.Provider.Service, Nonce: v.Nonce, Sequence: 1, Sent: uint64(v.Planned.Size), Final: true}
	receipt.Sign(s.nodes[v.Planned.Provider], s.epoch.Network)
	bytes, rate := int64(4096), int64(0)
	if v.Planned.Kind == evidence.Throughput {
		bytes, rate = int64(v.Planned.Size), 1<<20
	}
	return Sighting{
		Verdict: evidence.Pass, Start: s.now, End: s.now.Add(time.Second), Bytes: bytes, Rate: rate,
		Latency: 20 * time.Millisecond, Receipt: &receipt,
	}
}

func (s *scene) fail() Sighting {
	return Sighting{Verdict: evidence.Absent, Start: s.now, End: s.now, Control: Worked, ControlAt: s.now.Add(time.Second)}
}

// run carries out the whole epoch.
func (s *scene) run(sighting func(v Visit) Sighting) {
	for s.now.Before(begin.Add(660 * time.Second)) {
		for _, v := range s.at(s.Next(s.now)) {
			if _, err := s.Finish(v.Epoch, v.Row, sighting(v), s.now.Add(time.Second)); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, m := range s.Ready(s.now) {
			if c, ok := m.(Commitment); ok {
				s.Posted(c)
			}
		}
	}
}

// first returns the first visit that is due, of a kind if one is given.
func (s *scene) first(kinds ...evidence.Kind) Visit {
	s.t.Helper()
	for s.now.Before(begin.Add(600 * time.Second)) {
		for _, v := range s.at(s.Next(s.now)) {
			if len(kinds) == 0 || slices.Contains(kinds, v.Planned.Kind) {
				return v
			}
			if _, err := s.Finish(v.Epoch, v.Row, s.pass(v), s.now); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.t.Fatal("no such visit is planned")
	return Visit{}
}

func TestAnEpoch(t *testing.T) {
	s := newScene(t)
	s.Begin(s.epoch, begin.Add(-time.Minute))
	s.Begin(s.epoch, begin) // twice is once
	var visits []Visit
	s.run(func(v Visit) Sighting {
		visits = append(visits, v)
		rules := s.epoch.Roster.Rules()
		if at := ms(s.now) - ms(begin); at < uint64(v.Planned.Start) || at > uint64(v.Planned.Start)+uint64(rules.Latest()) {
			t.Errorf("row %d begins at %d ms, its window at %d", v.Row, at, v.Planned.Start)
		}
		if v.Row%5 == 4 {
			return s.fail()
		}
		return s.pass(v)
	})
	if len(visits) != 15 {
		t.Fatalf("%d visits of 15 planned", len(visits))
	}
	messages := s.Ready(s.now)
	if len(messages) != 1 {
		t.Fatalf("%v to post at the end of the grace", messages)
	}
	reveal := messages[0].(Publication).Reveal
	commit := evidence.CommitOf(s.epoch.Network, s.keys.Account, &reveal)
	report, err := s.epoch.Verify(s.keys.Account, evidence.VRFKeyOf(s.keys.VRF), commit, &reveal)
	if err != nil {
		t.Fatal(err)
	}
	challenge := evidence.Challenge{Epoch: 7, Inspector: s.keys.Account, Row: 3}
	if _, err := s.Answer(challenge); !errors.Is(err, ErrUnknown) {
		t.Errorf("answers before it reveals: %v", err)
	}
	s.Posted(messages[0])
	if len(s.Ready(s.now)) != 0 {
		t.Error("posts twice")
	}
	for i := range uint16(15) {
		challenge.Row = i
		answer, err := s.Answer(challenge)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Verify(&s.epoch.Frame, report, ms(begin)); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
		if failed := reveal.Outcomes[i].Verdict == evidence.Absent; failed != (i%5 == 4) {
			t.Errorf("row %d: %+v", i, reveal.Outcomes[i])
		}
	}
	for _, bad := range []evidence.Challenge{{Epoch: 8, Inspector: s.keys.Account}, {Epoch: 7}, {Epoch: 7, Inspector: s.keys.Account, Row: 15}} {
		if _, err := s.Answer(bad); !errors.Is(err, ErrUnknown) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	s.at(begin.Add(2 * time.Hour))
	if _, err := s.Answer(challenge); !errors.Is(err, ErrUnknown) {
		t.Errorf("an old epoch is kept: %v", err)
	}
}

// Reference: issue 5, what bad input gets: void or counted by a written rule.
func TestWhatCounts(t *testing.T) {
	type is = evidence.Outcome
	void := func(r evidence.Reason) is { return is{Verdict: evidence.Void, Reason: r} }
	for _, c := range []struct {
		name   string
		kinds  []evidence.Kind
		during func(s *scene, v Visit)
		seen   func(s *scene, v Visit) Sighting
		want   is // measurements are compared when they are given
	}{
		{"pass", nil, nil, (*scene).pass, is{Verdict: evidence.Pass}},
		{"pass without a receipt, control silent", nil, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Receipt, r.Control = nil, Silent
			return r
		}, void(evidence.Uplink)},
		{"pass without a receipt, control worked", nil, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Receipt, r.Control, r.ControlAt = nil, Worked, r.End
			return r
		}, is{Verdict: evidence.Broken}},
		{"receipt over another nonce", nil, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Receipt.Nonce[0]++
			r.Receipt.Sign(s.nodes[v.Planned.Provider], s.epoch.Network)
			r.Control, r.ControlAt = Worked, r.End
			return r
		}, is{Verdict: evidence.Broken}},
		{"forged receipt", nil, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Receipt.Signature[0]++
			r.Control, r.ControlAt = Worked, r.End
			return r
		}, is{Verdict: evidence.Broken}},
		{"failure, control worked", nil, nil, func(s *scene, _ Visit) Sighting { return s.fail() }, is{Verdict: evidence.Absent}},
		{"failure, control silent", nil, nil, func(s *scene, _ Visit) Sighting {
			f := s.fail()
			f.Control = Silent
			return f
		}, void(evidence.Uplink)},
		{"failure, nobody asked", nil, nil, func(s *scene, _ Visit) Sighting {
			f := s.fail()
			f.Control = NotAsked
			return f
		}, void(evidence.Uplink)},
		{"failure, control after 30 s", nil, nil, func(s *scene, _ Visit) Sighting {
			f := s.fail()
			f.ControlAt = f.End.Add(30*time.Second + time.Millisecond)
			return f
		}, void(evidence.Uplink)},
		{"failure, control within 30 s", nil, nil, func(s *scene, _ Visit) Sighting {
			f := s.fail()
			f.ControlAt = f.End.Add(30 * time.Second)
			return f
		}, is{Verdict: evidence.Absent}},
		{"no carrier", nil, nil, func(*scene, Visit) Sighting { return Sighting{Verdict: evidence.Void, Reason: evidence.Carrier} }, void(evidence.Carrier)},
		{"no funds", nil, nil, func(*scene, Visit) Sighting { return Sighting{Verdict: evidence.Void, Reason: evidence.Funds} }, void(evidence.Funds)},
		{"nothing", nil, nil, func(*scene, Visit) Sighting { return Sighting{} }, void(evidence.Internal)},
		{"impossible", []evidence.Kind{evidence.Reach}, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Bytes = 1 << 40
			return r
		}, void(evidence.Internal)},
		{"clock forward", nil, func(s *scene, _ Visit) { s.Tick(s.now.Add(2*time.Second), s.mono, 0) }, (*scene).pass, void(evidence.Clock)},
		{"clock back", nil, func(s *scene, _ Visit) { s.Tick(s.now.Add(-2*time.Second), s.mono, 0) }, (*scene).pass, void(evidence.Clock)},
		{"clock slewed", nil, func(s *scene, _ Visit) { s.Tick(s.now.Add(100*time.Millisecond), s.mono, 0) }, (*scene).pass, is{Verdict: evidence.Pass}},
		{"failed while moving", nil, func(s *scene, _ Visit) { s.Interrupt(evidence.OwnMove) }, func(s *scene, _ Visit) Sighting { return s.fail() }, void(evidence.OwnMove)},
		{"passed while moving", []evidence.Kind{evidence.Reach, evidence.Correctness}, func(s *scene, _ Visit) { s.Interrupt(evidence.OwnMove) }, (*scene).pass, is{Verdict: evidence.Pass}},
		{"timed while moving", []evidence.Kind{evidence.Latency, evidence.Throughput}, func(s *scene, _ Visit) { s.Interrupt(evidence.OwnMove) }, (*scene).pass, void(evidence.OwnMove)},
		{"clock and move", nil, func(s *scene, _ Visit) { s.Interrupt(evidence.Clock); s.Interrupt(evidence.OwnMove) }, (*scene).pass, void(evidence.Clock)},
		{"after the cut", nil, func(s *scene, _ Visit) { s.at(begin.Add(631 * time.Second)) }, (*scene).pass, void(evidence.Boundary)},
		{"over the boundary", nil, func(s *scene, _ Visit) { s.at(begin.Add(620 * time.Second)) }, (*scene).pass, is{Verdict: evidence.Pass}},
		{"wrong, shown", []evidence.Kind{evidence.Correctness}, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Verdict, r.Control, r.ControlAt = evidence.Wrong, Worked, r.End
			return r
		}, is{Verdict: evidence.Wrong}},
		{"wrong, with nothing to show for it", []evidence.Kind{evidence.Correctness}, nil, func(s *scene, v Visit) Sighting {
			r := s.pass(v)
			r.Verdict, r.Receipt, r.Control, r.ControlAt = evidence.Wrong, nil, Worked, r.End
			return r
		}, is{Verdict: evidence.Broken}},
		{"second session", nil, nil, func(s *scene, v Visit) Sighting {
			v.Nonce = v.Second
			r := s.pass(v)
			r.Again = true
			return r
		}, is{Verdict: evidence.Pass}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.Begin(s.epoch, begin)
			v := s.first(c.kinds...)
			seen := c.seen(s, v)
			if c.during != nil {
				c.during(s, v)
			}
			got, err := s.Finish(v.Epoch, v.Row, seen, s.now)
			if err != nil || got.Verdict != c.want.Verdict || got.Reason != c.want.Reason {
				t.Errorf("%s: %+v, %v, want %+v", v.Planned.Kind, got, err, c.want)
			}
			if err := got.Check(v.Planned, 600_000); err != nil {
				t.Error(err)
			}
			// What is said once is not taken back.
			if again, _ := s.Finish(v.Epoch, v.Row, s.fail(), s.now); again != got {
				t.Errorf("%+v became %+v", got, again)
			}
		})
	}
}

func TestLateStartOmits(t *testing.T) {
	s := newScene(t)
	s.now = begin.Add(300 * time.Second)
	s.Begin(s.epoch, s.now)
	visits := 0
	s.run(func(v Visit) Sighting { visits++; return s.pass(v) })
	reveal := s.Ready(s.now)[0].(Publication).Reveal
	omitted := 0
	for _, o := range reveal.Outcomes {
		if o.Verdict == evidence.Omitted {
			omitted++
		}
	}
	if omitted == 0 || visits+omitted != 15 {
		t.Errorf("%d visits, %d omitted", visits, omitted)
	}
}

// Visits that find no room wait, as long as their window.
func TestNoRoom(t *testing.T) {
	s := newScene(t)
	s.Begin(s.epoch, begin)
	for s.now.Before(begin.Add(610 * time.Second)) {
		if v := s.Tick(s.now, s.mono, 0); len(v) > 0 {
			t.Fatal("a visit without room")
		}
		s.now, s.mono = s.now.Add(time.Second), s.mono+time.Second
	}
	s.Tick(s.now, s.mono, 0)
	if o := s.Ready(s.now)[0].(Commitment); o.Epoch != 7 {
		t.Errorf("%+v", o)
	}
	for i, o := range s.find(7).outcomes {
		if o.Verdict != evidence.Omitted {
			t.Errorf("row %d: %+v", i, o)
		}
	}
}

func TestDeadlines(t *testing.T) {
	s := newScene(t)
	s.Begin(s.epoch, begin)
	s.first()
	s.at(begin.Add(630 * time.Second)) // the visit under way is cut
	if m := s.Ready(s.now); len(m) != 1 {
		t.Fatalf("%v at half of the grace", m)
	} else if _, ok := m[0].(Commitment); !ok {
		t.Fatalf("%v at half of the grace", m)
	}
	s.at(begin.Add(660 * time.Second))
	if m := s.Ready(s.now); len(m) != 0 {
		t.Errorf("%v after the grace, though nothing was committed", m)
	}
	// Committed, but never revealed.
	s = newScene(t)
	s.Begin(s.epoch, begin)
	s.at(begin.Add(640 * time.Second))
	s.Posted(s.Ready(s.now)[0])
	if m := s.Ready(s.now); len(m) != 0 {
		t.Errorf("%v within the grace: others could copy it", m)
	}
	s.at(begin.Add(1199 * time.Second))
	if m := s.Ready(s.now); len(m) != 1 {
		t.Errorf("%v before the end of the next epoch", m)
	}
	s.at(begin.Add(1200 * time.Second))
	if m := s.Ready(s.now); len(m) != 0 {
		t.Errorf("%v after the end of the next epoch", m)
	}
}

func TestRestart(t *testing.T) {
	s := newScene(t)
	s.Begin(s.epoch, begin)
	v := s.first()
	if _, err := s.Finish(v.Epoch, v.Row, s.pass(v), s.now); err != nil {
		t.Fatal(err)
	}
	under := s.first() // under way when the program ends
	state, err := s.State(7)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewCore(s.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(state); !errors.Is(err, ErrUnknown) {
		t.Errorf("restored what was not begun: %v", err)
	}
	again.Begin(s.epoch, s.now)
	if err := again.Restore(state); err != nil {
		t.Fatal(err)
	}
	s.Core, s.mono = again, 0
	s.run(func(w Visit) Sighting {
		if w.Row == v.Row || w.Row == under.Row {
			t.Errorf("row %d is visited again", w.Row)
		}
		return s.pass(w)
	})
	reveal := s.Ready(s.now)[0].(Publication).Reveal
	if o := reveal.Outcomes[v.Row]; o.Verdict != evidence.Pass {
		t.Errorf("what was done is %+v", o)
	}
	if o := reveal.Outcomes[under.Row]; o.Verdict != evidence.Omitted {
		t.Errorf("what was under way is %+v", o)
	}
	// After the commit nothing may change any more.
	state, err = s.State(7)
	if err != nil {
		t.Fatal(err)
	}
	third, _ := NewCore(s.keys)
	third.Begin(s.epoch, s.now)
	if err := third.Restore(state); err != nil {
		t.Fatal(err)
	}
	if got := third.Ready(s.now)[0].(Publication).Reveal; evidence.CommitOf(s.epoch.Network, s.keys.Account, &got) != evidence.CommitOf(s.epoch.Network, s.keys.Account, &reveal) {
		t.Error("a restart changes what was committed to")
	}
	other, _ := NewCore(Keys{Account: s.keys.Account, VRF: s.keys.VRF, Rows: [32]byte{99}})
	other.Begin(s.epoch, s.now)
	if err := other.Restore(state); !errors.Is(err, ErrState) {
		t.Errorf("restored with another secret: %v", err)
	}
	for n := range state {
		if err := third.Restore(state[:n]); !errors.Is(err, ErrState) {
			t.Fatalf("%d of %d bytes: %v", n, len(state), err)
		}
	}
}

func TestKeys(t *testing.T) {
	vrf := identity.NewKeyFromSeed([32]byte{1})
	good := Keys{Account: identity.AccountID{1}, VRF: vrf, Rows: [32]byte{1}}
	if _, err := NewCore(good); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(k *Keys){
		func(k *Keys) { k.Account = identity.AccountID{} },
		func(k *Keys) { k.VRF = identity.PrivateKey{} },
		func(k *Keys) { k.Rows = [32]byte{} },
		func(k *Keys) { k.Account = vrf.Account() },
	} {
		k := good
		spoil(&k)
		if _, err := NewCore(k); !errors.Is(err, ErrKeys) {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	s := newScene(&testing.T{})
	s.Begin(s.epoch, begin)
	state, err := s.State(7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	f.Add(state[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseState(b)
		if err == nil && len(got.outcomes) > evidence.MaxRows {
			t.Errorf("%d rows", len(got.outcomes))
		}
	})
}
