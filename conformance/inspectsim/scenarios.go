package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"scn.alt/scn/proofofservice/evidence"
)

// perYear is how many epochs of ten minutes a year has.
const perYear = 365 * 24 * 6

// cheaters returns a world in which an equal number of providers fails at each of
// the rates, beside honest ones, and prints how soon they are found.
func cheaters(out io.Writer, s size, seed uint64) *world {
	rates := []float64{0.05, 0.10, 0.20, 0.50, 1}
	w := newWorld(s, seed, evidence.Fixed)
	share := s.providers / 10
	for i := range len(rates) * share {
		w.failing[i] = rates[i/share]
	}
	w.run()
	fmt.Fprintf(out, "cheating   checks of one operator to its alarm: simulated (n)   exact     suspended after  share of epochs\n")
	fmt.Fprintf(out, "           mean    median  p95                  mean   median p95      epochs, median   suspended\n")
	for r, rate := range rates {
		var runs lifetimes
		var first []float64
		suspended := 0
		for p := r * share; p < (r+1)*share; p++ {
			runs.ended = append(runs.ended, w.runs[p]...)
			runs.cut = append(runs.cut, w.since[p*s.operators:(p+1)*s.operators]...)
			suspended += w.suspended[p]
			if w.first[p] > 0 {
				first = append(first, float64(w.first[p]))
			}
		}
		c := chain{int(w.rules.Fixed.Fail), int(w.rules.Fixed.Alarm), rate}
		slices.Sort(first)
		after := "never"
		if len(first) > 0 {
			after = fmt.Sprintf("%.0f (%d of %d)", first[len(first)/2], len(first), share)
		}
		fmt.Fprintf(out, "%5.0f %%  %7.1f %7s %6s  (%6d)    %7.1f %6d %6d   %-16s %5.1f %%\n", rate*100,
			runs.mean(), runs.quantile(0.5), runs.quantile(0.95), len(runs.ended),
			c.mean(), c.quantile(0.5), c.quantile(0.95), after, 100*float64(suspended)/float64(share*s.epochs))
	}
	rare := alone(&w.rules, rates[0], 2000, seed)
	c := chain{int(w.rules.Fixed.Fail), int(w.rules.Fixed.Alarm), rates[0]}
	fmt.Fprintf(out, "%5.0f %%  %7.1f %7s %6s  (%6d)    %7.1f %6d %6d   by views alone: the epochs above are too few\n", rates[0]*100,
		rare.mean(), rare.quantile(0.5), rare.quantile(0.95), len(rare.ended), c.mean(), c.quantile(0.5), c.quantile(0.95))
	var honest []int
	for p := len(rates) * share; p < s.providers; p++ {
		honest = append(honest, w.suspended[p])
	}
	fmt.Fprintf(out, "honest (2 %%): %d providers, %d of them ever suspended\n\n", len(honest), positive(honest))
	return w
}

// alone lets views see nothing but checks that fail at a rate, each until its alarm.
func alone(rules *evidence.Rules, rate float64, runs int, seed uint64) (l lifetimes) {
	random := rand.New(rand.NewPCG(seed, 3))
	for range runs {
		var v evidence.View
		for !v.Alarmed {
			o := evidence.Outcome{Verdict: evidence.Pass, Latency: 1}
			if random.Float64() < rate {
				o = evidence.Outcome{Verdict: evidence.Absent}
			}
			v.Add(rules, evidence.Fixed, evidence.Reach, o, 1)
		}
		l.ended = append(l.ended, int(v.Checks))
	}
	return l
}

// falseAlarms prints how often honest providers are accused.
func falseAlarms(out io.Writer, s size, seed uint64) *world {
	w := newWorld(s, seed, evidence.Fixed)
	half := s.providers / 2
	for p := half; p < s.providers; p++ {
		w.failing[p] = 0.05
	}
	w.run()
	// By counting visits, not by assuming them.
	checks := float64(w.rows) / float64(s.providers*s.operators*s.epochs) * perYear
	years := float64(s.epochs) / perYear * float64(half)
	fmt.Fprintf(out, "false alarms per provider-year (%.0f checks by each of %d operators; %.1f provider-years simulated)\n", checks, s.operators, years)
	fmt.Fprintf(out, "honest failure  one operator's alarm       suspension\n")
	fmt.Fprintf(out, "                simulated  exact           simulated  chain      with a quarter lying, chain\n")
	for i, rate := range []float64{0.02, 0.05} {
		alarms, suspended := 0, 0
		for p := i * half; p < (i+1)*half; p++ {
			alarms += len(w.runs[p])
			if w.first[p] > 0 {
				suspended++
			}
		}
		c := chain{int(w.rules.Fixed.Fail), int(w.rules.Fixed.Alarm), rate}
		fmt.Fprintf(out, "%8.0f %%      %9.4f  %9.4f       %9.4f  %.1e    %.1e\n", rate*100,
			float64(alarms)/years/float64(s.operators), checks/c.mean(), float64(suspended)/years,
			checks*c.suspensions(s.operators, 0, int(w.rules.Clear)), checks*c.suspensions(s.operators, s.operators/4, int(w.rules.Clear)))
	}
	fmt.Fprintln(out)
	return w
}

// liars is how many operators lie: a quarter, rounded up.
func (s size) liars() int { return (s.operators + 3) / 4 }

// scene is one way of lying, and what came of it.
type scene struct {
	name string
	lie  lie
	// Of honest providers: how far the mean of scores and the worst score moved from a
	// world without lies, in millionths, and how many were ever suspended.
	moved, worst int
	suspended    int
	// Liars found, and honest inspectors taken for liars.
	found, liars, accused int
	after                 uint64 // epochs until the median liar was found
}

// bad is how many providers of a lying world really fail, half of the time.
func (s size) bad() int { return s.providers / 20 }

// lying runs one world per way of lying beside one without lies.
func lying(out io.Writer, s size, seed uint64) []*scene {
	target := func(w *world, p int) bool { return p >= w.bad() && p < 3*w.bad() }
	scenes := []*scene{
		{name: "slander", lie: func(w *world, p int, _ evidence.Row, truth evidence.Outcome) (evidence.Outcome, bool) {
			if target(w, p) {
				return evidence.Outcome{Verdict: evidence.Absent}, true
			}
			return truth, true
		}},
		{name: "slander of all", lie: func(*world, int, evidence.Row, evidence.Outcome) (evidence.Outcome, bool) {
			return evidence.Outcome{Verdict: evidence.Absent}, true
		}},
		// A provider that colludes signs receipts for anything.
		{name: "collusion", lie: func(w *world, p int, row evidence.Row, truth evidence.Outcome) (evidence.Outcome, bool) {
			if p < w.bad() {
				return good(w.fancy, row), true
			}
			return truth, true
		}},
		{name: "laziness", lie: func(w *world, _ int, row evidence.Row, _ evidence.Outcome) (evidence.Outcome, bool) {
			return good(w.fancy, row), false
		}},
		{name: "copying", lie: func(w *world, p int, row evidence.Row, _ evidence.Outcome) (evidence.Outcome, bool) {
			if w.last[uint32(p)].Verdict == evidence.Absent {
				return w.last[uint32(p)], false
			}
			return good(w.fancy, row), false
		}},
	}
	worlds := make([]*world, 0, 1+len(scenes))
	worlds = append(worlds, lyingWorld(s, seed, nil))
	for _, c := range scenes {
		worlds = append(worlds, lyingWorld(s, seed, c.lie))
	}
	together(worlds, (*world).run)
	honest := worlds[0]
	fmt.Fprintf(out, "%d of %d operators lie     honest providers' scores   honest     liars found       honest inspectors\n", s.liars(), s.operators)
	fmt.Fprintf(out, "                          mean moved  worst moved    suspended  (epochs, median)  accused\n")
	for i, c := range scenes {
		c.measure(worlds[i+1], honest)
		fmt.Fprintf(out, "%-24s %+9.4f   %+9.4f      %5d      %3d of %d (%d)      %3d\n", c.name,
			float64(c.moved)/1e6, float64(c.worst)/1e6, c.suspended, c.found, c.liars, c.after, c.accused)
	}
	bad := func(w *world) (n int) {
		for p := range s.bad() {
			n += w.suspended[p]
		}
		return n * 100 / (s.bad() * s.epochs)
	}
	fmt.Fprintf(out, "providers that fail half the time are suspended in %d %% of epochs, with a quarter colluding in %d %%\n\n", bad(honest), bad(worlds[3]))
	return scenes
}

func lyingWorld(s size, seed uint64, l lie) *world {
	w := newWorld(s, seed, evidence.Fixed)
	for p := range s.bad() {
		w.failing[p] = 0.5
	}
	w.canaries = []int{s.providers - 2, s.providers - 1}
	w.failing[s.providers-1] = 1
	for o := range s.liars() {
		w.lies[o] = l
	}
	return w
}

func (c *scene) measure(w, without *world) {
	var n int
	c.worst = math.MaxInt
	for p := w.bad(); p < w.providers-2; p++ { // without canaries
		d := int(w.standings[p].Score) - int(without.standings[p].Score)
		c.moved += d
		c.worst = min(c.worst, d)
		n++
		if w.suspended[p] > 0 {
			c.suspended++
		}
	}
	c.moved /= n
	var after []uint64
	for i, epoch := range w.found {
		lies := w.operator[i] < w.liars()
		if lies {
			c.liars++
		}
		switch {
		case epoch > 0 && lies:
			c.found++
			after = append(after, epoch)
		case epoch > 0:
			c.accused++
		}
	}
	if slices.Sort(after); len(after) > 0 {
		c.after = after[len(after)/2]
	}
}

// sybils prints what one operator gets for as many inspectors as all others have.
func sybils(out io.Writer, s size, seed uint64) *world {
	s.inspectors *= 2
	w := newWorld(s, seed, evidence.Fixed)
	clear(w.stake)
	for i := range w.operator {
		w.operator[i] = s.operators - 1
		if i < s.inspectors/2 {
			w.operator[i] = i % (s.operators - 1)
		}
		w.stake[w.operator[i]] += 1000
	}
	w.lies[s.operators-1] = func(_ *world, _ int, _ evidence.Row, _ evidence.Outcome) (evidence.Outcome, bool) {
		return evidence.Outcome{Verdict: evidence.Absent}, true
	}
	w.run()
	weights := slices.Clone(w.stake)
	evidence.CapWeights(weights, w.rules.Cap)
	var weight uint64
	for _, v := range weights {
		weight += v
	}
	share := 100 * float64(weights[s.operators-1]) / float64(weight)
	var scores int
	for _, st := range w.standings {
		scores += int(st.Score)
	}
	fmt.Fprintf(out, "Sybils: %d of %d inspectors under one label slander everybody: they weigh %.1f %%;\n"+
		"%d honest providers suspended, mean score %.3f, %d of the Sybils found\n\n",
		s.inspectors/2, s.inspectors, share, positive(w.suspended), float64(scores)/float64(s.providers)/1e6,
		positive(w.found[s.inspectors/2:]))
	return w
}

// withheld prints what an authority gains that posts its output only when the seed
// with it is better for a provider than the one without.
func withheld(out io.Writer, s size, seed uint64) (honest, chosen, share float64) {
	w := newWorld(s, seed, evidence.Fixed)
	visits := func(seed [32]byte) (n int) {
		for i := range s.inspectors {
			for _, row := range evidence.PlanOf(w.roster, output(seed, i)) {
				if row.Provider == 0 {
					n++
				}
			}
		}
		return n
	}
	var posted, picked, withholds int
	epochs := s.epochs / 4
	for range epochs {
		with, without := visits(w.seed()), visits(w.seed())
		posted += with
		picked += min(with, without)
		if without < with {
			withholds++
		}
	}
	honest, chosen = float64(posted)/float64(epochs), float64(picked)/float64(epochs)
	share = float64(withholds) / float64(epochs)
	fmt.Fprintf(out, "an authority that withholds its output when that helps one provider: %.2f visits an epoch instead of %.2f (%.0f %%),\n"+
		"for which it is seen to withhold, and loses its pay, in %.0f %% of epochs\n\n", chosen, honest, 100*(chosen/honest-1), 100*share)
	return honest, chosen, share
}

// movers prints what becomes of providers and inspectors that move all the time.
func movers(out io.Writer, s size, seed uint64) *world {
	s.epochs = max(s.epochs/4, 200)
	w := newWorld(s, seed, evidence.Mobile)
	for p := range w.failing {
		w.failing[p] = 0.05
	}
	w.ownMoves = 0.10
	w.run()
	c := chain{int(w.rules.Mobile.Fail), int(w.rules.Mobile.Alarm), 0.05}
	var gap, score int
	for _, st := range w.standings {
		gap += int(st.Gap)
		score += int(st.Score)
	}
	fmt.Fprintf(out, "mobile providers, 5 %% of checks cut by their moves, 10 %% void by the inspectors' own: %d of %d suspended in %d epochs,\n"+
		"mean gap %d ms, mean score %.3f; one operator's alarm once in %.0f checks (chain); a dead one in %.0f\n\n",
		positive(w.suspended), s.providers, s.epochs, gap/s.providers, float64(score)/float64(s.providers)/1e6,
		c.mean(), chain{c.fail, c.h, 1}.mean())
	return w
}

// lifetimes are numbers of checks that ended with an alarm, and numbers that the end
// of the simulation cut.
type lifetimes struct{ ended, cut []int }

// mean estimates the mean: all checks over all alarms.
func (l lifetimes) mean() float64 {
	sum := 0
	for _, v := range slices.Concat(l.ended, l.cut) {
		sum += v
	}
	return float64(sum) / float64(max(len(l.ended), 1))
}

// quantile estimates a quantile (Kaplan and Meier 1958): what was cut counts as
// long as it was seen. It is a dash where the simulation was too short to tell.
func (l lifetimes) quantile(q float64) string {
	slices.Sort(l.ended)
	slices.Sort(l.cut)
	left, cut := len(l.ended)+len(l.cut), 0
	surviving := 1.0
	for _, v := range l.ended {
		for cut < len(l.cut) && l.cut[cut] < v {
			cut++
			left--
		}
		surviving *= 1 - 1/float64(left)
		left--
		if surviving <= 1-q {
			return strconv.Itoa(v)
		}
	}
	return "–"
}

func positive[T int | uint64](values []T) (n int) {
	for _, v := range values {
		if v > 0 {
			n++
		}
	}
	return n
}
