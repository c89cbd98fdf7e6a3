package evidence

import (
	"math/rand/v2"
	"testing"

	"scn.alt/scn/routing/identity"
)

var (
	passed = Outcome{Verdict: Pass, Latency: 20_000}
	absent = Outcome{Verdict: Absent}
)

// Reference: issue 5 §5: failure +11, success −1, not below 0, alarm at 50.
func TestCUSUM(t *testing.T) {
	rules := Rules{}.WithDefaults()
	var v View
	steps := []struct {
		o     Outcome
		sum   uint16
		alarm bool
	}{
		{passed, 0, false},
		{absent, 11, false},
		{passed, 10, false},
		{absent, 21, false},
		{Outcome{Verdict: Void, Reason: Uplink}, 21, false},
		{Outcome{}, 21, false},
		{absent, 32, false},
		{absent, 43, false},
		{passed, 42, false},
		{absent, 0, true},
		{absent, 11, true},
	}
	for i, s := range steps {
		v.Add(&rules, Fixed, Reach, s.o, uint64(i))
		if v.Sum != s.sum || v.Alarmed != s.alarm {
			t.Fatalf("step %d: sum %d, alarm %v", i, v.Sum, v.Alarmed)
		}
	}
	for i := range 20 {
		if !v.Alarmed {
			t.Fatalf("%d good checks clear an alarm", i)
		}
		v.Add(&rules, Fixed, Reach, passed, 20)
	}
	if v.Alarmed || v.Sum != 0 {
		t.Errorf("20 good checks leave the alarm, sum %d", v.Sum)
	}
	// A provider of the mobile class bears more.
	var m View
	for range 7 {
		m.Add(&rules, Mobile, Reach, absent, 1)
	}
	if m.Alarmed || m.Sum != 49 {
		t.Errorf("seven failures of a mobile provider: sum %d, alarm %v", m.Sum, m.Alarmed)
	}
	if m.Add(&rules, Mobile, Reach, absent, 1); !m.Alarmed {
		t.Error("eight failures of a mobile provider do not alarm")
	}
}

// A View is the same as a list of everything that ever happened.
func TestViewAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	rules := Rules{}.WithDefaults()
	var v View
	var checks []Check
	var lat []uint32
	sum, streak, alarmed := 0, 0, false
	for i := range 3000 {
		kind := Kind(r.UintN(Kinds))
		o := randomOutcome(r, kind)
		if i > 1500 && o.Verdict == Absent && r.UintN(8) > 0 {
			o = passed // quiet times, so that alarms are cleared
		}
		c := v.Add(&rules, Fixed, kind, o, uint64(i))
		if c != rules.Fixed.CheckOf(o) {
			t.Fatalf("%+v is %d", o, c)
		}
		switch {
		case c == Good:
			checks, sum, streak = append(checks, c), max(sum-1, 0), streak+1
			alarmed = alarmed && streak < 20
		case c > Good:
			checks, sum, streak = append(checks, c), sum+11, 0
			if sum >= 50 {
				sum, alarmed = 0, true
			}
		}
		if c != Uncounted && o.Latency > 0 {
			lat = append(lat, o.Latency)
		}
		recent := checks[max(len(checks)-200, 0):]
		var bad, lies uint32
		for _, c := range recent {
			if c > Good {
				bad++
			}
			if c == False {
				lies++
			}
		}
		if int(v.Sum) != sum || v.Alarmed != alarmed || v.Failures() != bad || v.False() != lies ||
			int(v.Sample()) != len(recent) || int(v.Checks) != len(checks) {
			t.Fatalf("after %d rows: %+v; sum %d, alarm %v, %d of %d failed", i, v, sum, alarmed, bad, len(recent))
		}
		want := Quantile(lat[max(len(lat)-64, 0):], 900_000)
		if got, ok := v.Latency(900_000); ok && (got > want || want-got > want/8) || ok != (len(lat) > 0) {
			t.Fatalf("after %d rows the p90 is %d, not %d", i, got, want)
		}
	}
}

func TestWhatCountsAsFailure(t *testing.T) {
	rules := Rules{}.WithDefaults()
	for _, c := range []struct {
		name          string
		o             Outcome
		fixed, mobile Check
	}{
		{"omitted", Outcome{}, Uncounted, Uncounted},
		{"void", Outcome{Verdict: Void, Reason: OwnMove}, Uncounted, Uncounted},
		{"pass", passed, Good, Good},
		{"late", Outcome{Verdict: Pass, Latency: 6_000_000}, Bad, Good},
		{"later", Outcome{Verdict: Pass, Latency: 11_000_000}, Bad, Bad},
		{"gap", Outcome{Verdict: Pass, Latency: 1, Gap: 6_000}, Bad, Good},
		{"long gap", Outcome{Verdict: Pass, Latency: 1, Gap: 11_000}, Bad, Bad},
		{"broken", Outcome{Verdict: Broken, Latency: 1}, Bad, Bad},
		{"wrong", Outcome{Verdict: Wrong, Latency: 1}, False, False},
		{"overcharged", Outcome{Verdict: Overcharged, Latency: 1}, False, False},
	} {
		if f, m := rules.Fixed.CheckOf(c.o), rules.Mobile.CheckOf(c.o); f != c.fixed || m != c.mobile {
			t.Errorf("%s: %d fixed, %d mobile", c.name, f, m)
		}
	}
}

// panel is a provider and what operators of equal weight see of it.
type panel struct {
	rules    Rules
	provider Provider
	views    []View
	standing Standing
	epoch    uint64
}

func newPanel(operators int) *panel {
	return &panel{rules: Rules{}.WithDefaults(), views: make([]View, operators), epoch: 100, provider: Provider{Kinds: AllKinds, Rate: 1000}}
}

// close adds one outcome per operator and judges.
func (p *panel) close(outcome func(operator int) Outcome) Standing {
	var opinions []Opinion
	for i := range p.views {
		p.views[i].Add(&p.rules, p.provider.Class, Reach, outcome(i), p.epoch)
		opinions = append(opinions, Opinion{Weight: 1000, View: &p.views[i]})
	}
	p.standing = Judge(&p.rules, p.provider, p.standing, opinions, p.epoch)
	p.epoch++
	return p.standing
}

// Reference: issue 5 §5: more than half of the weight.
func TestQuorum(t *testing.T) {
	for _, c := range []struct {
		operators, accusers int
		suspended           bool
	}{
		{15, 7, false},
		{15, 8, true},
		{16, 8, false},
		{16, 9, true},
		{15, 4, false}, // a quarter
		{3, 2, true},
		{2, 2, false}, // too few operators to judge anybody
	} {
		p := newPanel(c.operators)
		suspended := false
		for range 30 {
			s := p.close(func(i int) Outcome {
				if i < c.accusers {
					return absent
				}
				return passed
			})
			suspended = suspended || s.Suspended(p.epoch)
		}
		if suspended != c.suspended {
			t.Errorf("%d of %d accuse: suspended %v", c.accusers, c.operators, suspended)
		}
	}
}

// Those who looked most often do not decide before all others were heard.
func TestTheEagerDoNotDecideAlone(t *testing.T) {
	p := newPanel(15)
	for range 30 {
		s := p.close(func(i int) Outcome {
			switch {
			case i < 4:
				return absent
			case p.epoch == 101:
				return passed // one look at the beginning, none since
			}
			return Outcome{}
		})
		if s.Suspended(p.epoch) {
			t.Fatalf("suspended in epoch %d by 4 of 15", p.epoch)
		}
	}
}

// Reference: issue 5 §5: suspended an epoch, doubling.
func TestLadder(t *testing.T) {
	p := newPanel(5)
	var lengths []uint64
	var until uint64
	for range 2300 {
		if s := p.close(func(int) Outcome { return absent }); s.Until != until {
			lengths = append(lengths, s.Until-p.epoch)
			if until != 0 && until != p.epoch {
				t.Fatalf("free between %d and %d, while all alarms stand", until, p.epoch)
			}
			until = s.Until
		}
	}
	want := []uint64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1008, 1008}
	if len(lengths) < len(want) {
		t.Fatalf("suspended for %v epochs", lengths)
	}
	for i, n := range want {
		if lengths[i] != n {
			t.Fatalf("suspended for %v epochs, want %v", lengths, want)
		}
	}
	// It recovers: alarms are cleared, the suspension runs out, nothing follows.
	for range 1100 {
		p.close(func(int) Outcome { return passed })
	}
	if p.standing.Suspended(p.epoch) || p.standing.Level == 0 {
		t.Errorf("after recovering: %+v", p.standing)
	}
	for range int(p.rules.Reset) {
		p.close(func(int) Outcome { return passed })
	}
	if p.standing.Level != 0 {
		t.Errorf("after %d clean epochs the level is %d", p.rules.Reset, p.standing.Level)
	}
}

// Reference: issue 5: a ledger that halts for an hour: no provider is blamed.
func TestMissingEpochsBlameNobody(t *testing.T) {
	p := newPanel(5)
	for range 300 {
		p.close(func(int) Outcome { return passed })
	}
	before := p.standing
	for range 6 {
		p.close(func(int) Outcome { return Outcome{} })
	}
	if after := p.standing; after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	// Not even where an alarm stands: it needs somebody who looked.
	for range 5 {
		p.close(func(int) Outcome { return absent })
	}
	until := p.standing.Until
	for range 20 {
		p.close(func(int) Outcome { return Outcome{Verdict: Void, Reason: Uplink} })
	}
	if p.standing.Until != until || until == 0 {
		t.Errorf("suspended until %d, then until %d", until, p.standing.Until)
	}
}

func TestJudgeDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	rules := Rules{}.WithDefaults()
	for range 200 {
		opinions := make([]Opinion, 1+r.IntN(20))
		for i := range opinions {
			opinions[i] = Opinion{Weight: r.Uint64() >> r.UintN(64), View: new(View)}
			for range r.IntN(300) {
				kind := Kind(r.UintN(Kinds))
				opinions[i].View.Add(&rules, Fixed, kind, randomOutcome(r, kind), 5)
			}
		}
		first := Judge(&rules, Provider{}, Standing{}, opinions, 6)
		r.Shuffle(len(opinions), func(i, j int) { opinions[i], opinions[j] = opinions[j], opinions[i] })
		if second := Judge(&rules, Provider{}, Standing{}, opinions, 6); first != second {
			t.Fatalf("%+v, then %+v", first, second)
		}
		if _, err := ParseStanding(first.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScoresAreOrdered(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	run := func(outcome func() (Kind, Outcome)) Standing {
		p := newPanel(8)
		for range 100 {
			var opinions []Opinion
			for i := range p.views {
				kind, o := outcome()
				p.views[i].Add(&p.rules, Fixed, kind, o, p.epoch)
				opinions = append(opinions, Opinion{Weight: 1, View: &p.views[i]})
			}
			p.standing = Judge(&p.rules, p.provider, p.standing, opinions, p.epoch)
			p.epoch++
		}
		return p.standing
	}
	burst := func(rate uint32) (Kind, Outcome) {
		if r.IntN(4) > 0 {
			return Reach, Outcome{Verdict: Pass, Latency: 20_000 + r.Uint32N(5000)}
		}
		return Throughput, Outcome{Verdict: Pass, Latency: 20_000, KiB: 64, Rate: rate}
	}
	honest := run(func() (Kind, Outcome) { return burst(1000) })
	throttled := run(func() (Kind, Outcome) { return burst(200) })
	dead := run(func() (Kind, Outcome) {
		if r.IntN(3) == 0 {
			return Reach, absent
		}
		return burst(1000)
	})
	altered := run(func() (Kind, Outcome) {
		if r.IntN(4) == 0 {
			return Correctness, Outcome{Verdict: Wrong, Latency: 20_000, KiB: 4}
		}
		return burst(1000)
	})
	if honest.Score <= throttled.Score || throttled.Score <= dead.Score || dead.Score <= altered.Score || altered.Score != 0 {
		t.Errorf("honest %d, throttled %d, dead a third %d, altering %d", honest.Score, throttled.Score, dead.Score, altered.Score)
	}
	if honest.Score < 950_000 || honest.Alarm != 0 || throttled.Alarm != 0 || dead.Alarm == 0 || altered.Alarm == 0 || !altered.Wrong {
		t.Errorf("honest %+v, throttled %+v, dead %+v, altering %+v", honest, throttled, dead, altered)
	}
	if honest.Sample != 200 || honest.Operators != 8 || honest.Checks != 800 || honest.Latency90 == 0 || honest.Rate > 1000 || honest.Rate < 875 {
		t.Errorf("%+v", honest)
	}
}

// Reference: issue 5 §5: new providers on probation.
func TestProbation(t *testing.T) {
	rules := Rules{}.WithDefaults()
	s := NewStanding(&rules, Provider{}, 50)
	if s.Score != 629_151 || s.Since != 50 || s.Suspended(51) || !s.Probation(&rules, 51) {
		t.Errorf("a new provider: %+v", s)
	}
	s.Checks = 100
	if !s.Probation(&rules, 50+1007) || s.Probation(&rules, 50+1008) {
		t.Error("probation ends at the wrong time")
	}
	s.Checks = 99
	if !s.Probation(&rules, 5000) {
		t.Error("probation ends unseen")
	}
}

func TestRelease(t *testing.T) {
	for _, c := range []struct {
		amount      uint64
		score       uint32
		paid, burnt uint64
	}{
		{1000, million, 1000, 0},
		{1000, 0, 0, 1000},
		{1000, 333_333, 333, 667},
		{1 << 63, 500_000, 1 << 62, 1 << 62},
		{10, million + 5, 10, 0},
	} {
		if paid, burnt := Release(c.amount, c.score); paid != c.paid || burnt != c.burnt {
			t.Errorf("%d at %d: %d paid, %d burnt", c.amount, c.score, paid, burnt)
		}
	}
}

func TestContradictions(t *testing.T) {
	rules := Rules{}.WithDefaults()
	r := rand.New(rand.NewPCG(4, 4))
	see := func(n int, failing float64) *View {
		v := new(View)
		for range n {
			o := passed
			if r.Float64() < failing {
				o = absent
			}
			v.Add(&rules, Fixed, Reach, o, 10)
		}
		return v
	}
	others := func(failing float64) (list []Opinion) {
		for range 10 {
			list = append(list, Opinion{Weight: 1, View: see(200, failing)})
		}
		return list
	}
	for _, c := range []struct {
		name string
		own  *View
		all  []Opinion
		want bool
	}{
		{"slander", see(50, 1), others(0.02), true},
		{"collusion", see(200, 0), others(0.5), true},
		{"agreement", see(200, 0.02), others(0.02), false},
		{"a bad day", see(200, 0.08), others(0.02), false},
		{"both see it dead", see(200, 1), others(1), false},
		{"too few checks", see(4, 1), others(0.02), false},
		{"too few others", see(50, 1), others(0.02)[:2], false},
	} {
		if got := Contradicts(&rules, Fixed, c.own, c.all, 10); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestConduct(t *testing.T) {
	var c Conduct
	for range 1000 {
		c.Row(true)
		c.Shown(true)
		c.Canary(true, passed)
		c.Canary(false, absent)
		c.Canary(false, Outcome{Verdict: Void, Reason: Uplink})
	}
	if c.Punish(1, 10) || c.Planned != 1000 || c.Done != 1000 {
		t.Errorf("an honest inspector: %+v", c)
	}
	for i := range 5 {
		if c.Faults != 0 {
			t.Fatalf("convicted after %d omissions", i)
		}
		c.Row(false)
	}
	if c.Faults != Omits || !c.Punish(7, 10) || c.Until != 17 || c.Punish(8, 10) {
		t.Errorf("five omissions: %+v", c)
	}
	c = Conduct{}
	if c.Canary(false, passed); c.Faults != Invents {
		t.Error("a dead canary is found alive, and nothing follows")
	}
	c = Conduct{}
	for range 4 {
		c.Canary(true, absent)
	}
	if c.Faults != 0 {
		t.Error("four failures at a living canary convict")
	}
	if c.Shown(false); c.Faults != Invents {
		t.Error("a row that is not served counts nothing")
	}
	if c.Dissent(); c.Faults != Invents|Dissents {
		t.Error("no dissent")
	}
}

func TestPay(t *testing.T) {
	rules := Rules{}.WithDefaults()
	roster := rosterOf(t, Rules{}, 3, 2)
	submission := func(operator, network string, outcomes ...Outcome) Submission {
		r := &Report{Reveal: Reveal{Outcomes: outcomes}}
		for i := range outcomes {
			r.Rows = append(r.Rows, Row{Provider: uint32(i % 2)})
		}
		return Submission{Admission{Operator: Label(operator), Network: Label(network)}, r}
	}
	void := Outcome{Verdict: Void, Reason: Uplink}
	works := WorkOf(roster, []Submission{
		submission("a", "x", passed, absent),         // confirmed by c
		submission("a", "y", absent, absent),         // provider 0: nobody else; provider 1: c's
		submission("c", "z", passed, absent),         // confirmed by a
		submission("d", "z", void, Outcome{}),        // nothing done
		submission("b", "x", passed, passed, absent), // a saw provider 0 from y: independent
	})
	want := []Work{4, 4, 4, 0, 6}
	for i := range want {
		if works[i] != want[i] {
			t.Errorf("work %v, want %v", works, want)
			break
		}
	}
	alone := WorkOf(roster, []Submission{
		submission("a", "x", absent, passed), submission("a", "y", absent, passed), submission("b", "x", absent, passed),
	})
	// a/y and b/x are independent of one another, a/x of neither.
	if alone[0] != 3 || alone[1] != 4 || alone[2] != 4 {
		t.Errorf("lonely failures: %v", alone)
	}
	for _, c := range []struct {
		pool uint64
		want []uint64
	}{
		{0, []uint64{0, 0, 0, 0, 0}},
		{17, []uint64{0, 0, 0, 0, 0}},
		{180, []uint64{40, 40, 40, 0, 60}},
		{1 << 60, []uint64{2000, 2000, 2000, 0, 3000}}, // at most RowPay a row
	} {
		pays := Pay(&rules, c.pool, works)
		var sum uint64
		for i, p := range pays {
			sum += p
			if p != c.want[i] {
				t.Errorf("a pool of %d: %v, want %v", c.pool, pays, c.want)
				break
			}
		}
		if sum > c.pool {
			t.Errorf("a pool of %d pays %d", c.pool, sum)
		}
	}
	if pays := Pay(&rules, 100, make([]Work, 2)); pays[0] != 0 {
		t.Error("idlers are paid")
	}
}

func TestCanary(t *testing.T) {
	c := Canary{Service: identity.ServiceID{1}, Node: identity.NodeID{2}, From: 5, To: 6, Salt: [32]byte{3}}
	p := Provider{Service: c.Service, Node: c.Node}
	for epoch, want := range map[uint64]bool{4: false, 5: true, 6: true, 7: false} {
		if c.Covers(p, epoch) != want {
			t.Errorf("epoch %d", epoch)
		}
	}
	other := c
	other.Alive = true
	if c.Covers(Provider{}, 5) || c.Commit(identity.NetworkID{}) == other.Commit(identity.NetworkID{}) ||
		c.Commit(identity.NetworkID{}) == c.Commit(identity.NetworkID{1}) {
		t.Error("a canary stands for another")
	}
}
