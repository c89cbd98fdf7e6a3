package main

import (
	"bytes"
	"io"
	"math"
	"strconv"
	"testing"

	"scn.alt/scn/proofofservice/evidence"
)

// small is a world for every run of the tests.
var small = size{providers: 60, inspectors: 24, operators: 12, epochs: 200}

// Reference: research, proof-and-ledger §1.3: checks to alarm, exactly.
func TestMarkovWorkedValues(t *testing.T) {
	rates := []float64{0.005, 0.01, 0.02, 0.05, 0.10, 0.20, 0.50, 1}
	for h, want := range map[int][]float64{
		39: {2.2e7, 1.1e6, 5.3e4, 982, 103, 27, 8, 4},
		50: {1.5e9, 3.1e7, 5.6e5, 2700, 147, 35, 11, 5},
		61: {9.9e10, 8.5e8, 5.9e6, 7100, 195, 43, 13, 6},
	} {
		for i, p := range rates {
			if got := (chain{11, h, p}).mean(); math.Abs(got/want[i]-1) > 0.05 && math.Abs(got-want[i]) > 0.51 {
				t.Errorf("h %d, failing %v: %.3g checks, want %.3g", h, p, got, want[i])
			}
		}
	}
	if got := (chain{11, 50, 1}).quantile(0.5); got != 5 {
		t.Errorf("a dead provider is found in %d checks", got)
	}
	rules := evidence.Rules{}.WithDefaults()
	mobile := chain{int(rules.Mobile.Fail), int(rules.Mobile.Alarm), 0.05}
	if got := mobile.mean(); got < 9e5 {
		t.Errorf("a mobile provider that fails 5 %% is accused once in %.0f checks", got)
	}
}

// Where epochs are too few to wait for alarms, views alone are simulated.
func TestRareAlarms(t *testing.T) {
	rules := evidence.Rules{}.WithDefaults()
	for _, rate := range []float64{0.05, 0.2} {
		c, l := chain{11, 50, rate}, alone(&rules, rate, 1000, 1)
		median, err := strconv.Atoi(l.quantile(0.5))
		if err != nil || math.Abs(float64(median)/float64(c.quantile(0.5))-1) > 0.15 || math.Abs(l.mean()/c.mean()-1) > 0.15 {
			t.Errorf("failing %v: mean %.0f, median %d; exactly %.0f, %d", rate, l.mean(), median, c.mean(), c.quantile(0.5))
		}
	}
}

// Reference: issue 5, shown by 2: the simulated checks to alarm are the exact ones.
func TestCheatersAreFound(t *testing.T) {
	t.Parallel()
	w := cheaters(io.Discard, small, 1)
	share := small.providers / 10
	for r, rate := range []float64{0.05, 0.10, 0.20, 0.50, 1} {
		var l lifetimes
		for p := r * share; p < (r+1)*share; p++ {
			l.ended = append(l.ended, w.runs[p]...)
			l.cut = append(l.cut, w.since[p*w.operators:(p+1)*w.operators]...)
			if rate >= 0.20 && w.first[p] == 0 {
				t.Errorf("provider %d, cheating %v, is never suspended", p, rate)
			}
		}
		exact := chain{11, 50, rate}.mean()
		if n := float64(len(l.ended)); n > 30 && math.Abs(l.mean()/exact-1) > 5/math.Sqrt(n) {
			t.Errorf("cheating %v: %.1f checks to alarm, exactly %.1f", rate, l.mean(), exact)
		}
	}
	for p := 5 * share; p < small.providers; p++ {
		if w.suspended[p] > 0 {
			t.Errorf("honest provider %d is suspended", p)
		}
		if w.standings[p].Score < 800_000 {
			t.Errorf("honest provider %d has a score of %d", p, w.standings[p].Score)
		}
	}
}

// Reference: issue 5, shown by 2: a quarter of liars suspends nobody honest, and is
// found.
func TestLiarsHarmNobody(t *testing.T) {
	t.Parallel()
	for _, c := range lying(io.Discard, small, 2) {
		if c.suspended != 0 || c.accused != 0 {
			t.Errorf("%s: %d honest providers suspended, %d honest inspectors accused", c.name, c.suspended, c.accused)
		}
		if c.found != c.liars || c.liars == 0 {
			t.Errorf("%s: %d of %d liars found", c.name, c.found, c.liars)
		}
		if max(c.moved, -c.moved) > 20_000 {
			t.Errorf("%s: moves scores by %d", c.name, c.moved)
		}
	}
}

// The check must be able to fail: more than half of the operators can suspend.
func TestMostOperatorsLying(t *testing.T) {
	t.Parallel()
	w := newWorld(small, 3, evidence.Fixed)
	for o := range small.operators/2 + 1 {
		w.lies[o] = func(*world, int, evidence.Row, evidence.Outcome) (evidence.Outcome, bool) {
			return evidence.Outcome{Verdict: evidence.Absent}, true
		}
	}
	w.epochs = 60
	w.run()
	if n := positive(w.suspended); n != small.providers {
		t.Errorf("%d providers suspended", n)
	}
}

func TestSybilsAndWithholders(t *testing.T) {
	t.Parallel()
	s := small
	s.epochs = 120
	if w := sybils(io.Discard, s, 4); positive(w.suspended) != 0 {
		t.Error("Sybils under one label suspend providers")
	}
	honest, chosen, share := withheld(io.Discard, small, 5)
	if gain := 1 - chosen/honest; gain < 0.05 || gain > 0.4 || share > 0.6 {
		t.Errorf("withholding saves %.2f of visits, in %.2f of epochs", gain, share)
	}
}

// Reference: issue 5, shown by 4: mobile providers that move all the time: none
// suspended in 200 epochs.
func TestMoversAreNotSuspended(t *testing.T) {
	t.Parallel()
	if w := movers(io.Discard, small, 6); positive(w.suspended) != 0 || w.epochs < 200 {
		t.Errorf("%d of %d suspended", positive(w.suspended), small.providers)
	}
}

// The same seed prints the same.
func TestRunsAreRepeatable(t *testing.T) {
	t.Parallel()
	s := small
	s.epochs = 20
	var a, b bytes.Buffer
	run(&a, s, 7)
	run(&b, s, 7)
	if a.String() != b.String() || a.Len() == 0 {
		t.Errorf("%s\n---\n%s", &a, &b)
	}
}
