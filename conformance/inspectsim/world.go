package main

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// size is how large a world is.
type size struct {
	providers, inspectors, operators, epochs int
}

var full = size{providers: 200, inspectors: 40, operators: 15, epochs: 2000}

// lie is what an inspector says instead of what is; visited is whether it must have
// visited the provider to know, and so can show a receipt.
type lie func(w *world, provider int, row evidence.Row, truth evidence.Outcome) (said evidence.Outcome, visited bool)

// world is one network under the rules of package evidence: the plans, the CUSUMs,
// the judgement and the conduct are the product's, only signatures are left out.
type world struct {
	size
	rules  evidence.Rules
	roster *evidence.Roster
	random *rand.Rand // of what happens
	fancy  *rand.Rand // of what is made up, so that lies do not change what happens
	epoch  uint64

	failing  []float64 // by provider: how often it fails a check
	canaries []int     // providers of which the truth is known
	operator []int     // by inspector
	stake    []uint64  // by operator
	lies     []lie     // by operator; nil is honest
	ownMoves float64   // how often a probe is void since the inspector moved

	views     []evidence.View // by provider, then operator
	standings []evidence.Standing
	conduct   []evidence.Conduct
	found     []uint64                    // by inspector: the epoch of its first fault
	last      map[uint32]evidence.Outcome // what the majority said last of a provider

	suspended []int // by provider: in how many epochs
	first     []uint64
	since     []int         // by provider and operator: checks since the last alarm
	runs      map[int][]int // by provider: checks between alarms
	rows      int
}

// newWorld returns a world of honest providers that fail 2 % of their checks.
func newWorld(s size, seed uint64, class evidence.Class) *world {
	w := &world{
		size: s, rules: evidence.Rules{}.WithDefaults(), random: rand.New(rand.NewPCG(seed, 1)), fancy: rand.New(rand.NewPCG(seed, 2)),
		epoch: 1, failing: make([]float64, s.providers),
		operator: make([]int, s.inspectors), stake: make([]uint64, s.operators), lies: make([]lie, s.operators),
		views: make([]evidence.View, s.providers*s.operators), standings: make([]evidence.Standing, s.providers),
		conduct: make([]evidence.Conduct, s.inspectors), found: make([]uint64, s.inspectors),
		last: make(map[uint32]evidence.Outcome), suspended: make([]int, s.providers), first: make([]uint64, s.providers),
		since: make([]int, s.providers*s.operators), runs: make(map[int][]int),
	}
	list := make([]evidence.Provider, s.providers)
	for i := range list {
		list[i] = evidence.Provider{Kinds: evidence.AllKinds, Class: class, Rate: 10_000, Revenue: 1_000_000}
		binary.BigEndian.PutUint32(list[i].Service[:], uint32(i/4))
		binary.BigEndian.PutUint32(list[i].Node[:], uint32(i))
		w.failing[i] = 0.02
	}
	for i := range w.operator {
		w.operator[i] = i % s.operators
		w.stake[w.operator[i]] += 1000
	}
	roster, err := evidence.NewRoster(w.rules, s.inspectors, list)
	if err != nil {
		panic(err)
	}
	w.roster = roster
	return w
}

// run lets all epochs pass.
func (w *world) run() {
	for range w.epochs {
		w.step()
	}
}

// output stands for the VRF output of an inspector under a seed.
func output(seed [32]byte, inspector int) (o evidence.VRFOutput) {
	h := sha256.Sum256(binary.BigEndian.AppendUint32(seed[:], uint32(inspector)))
	copy(o[:], h[:])
	return o
}

func (w *world) seed() (s [32]byte) {
	for i := range 4 {
		binary.BigEndian.PutUint64(s[8*i:], w.random.Uint64())
	}
	return s
}

// step lets one epoch pass: visits, reports, challenges, judgement.
func (w *world) step() {
	seed, later := w.seed(), evidence.Seed(w.seed())
	failed := make(map[uint32]int)
	visits := make(map[uint32]int)
	for i, operator := range w.operator {
		rows := evidence.PlanOf(w.roster, output(seed, i))
		unvisited := make([]bool, len(rows))
		for j, row := range rows {
			truth := w.visit(row)
			said := truth
			if lie := w.lies[operator]; lie != nil {
				var visited bool
				said, visited = lie(w, int(row.Provider), row, truth)
				unvisited[j] = !visited && said.Verdict == evidence.Pass
			}
			if err := said.Check(row, w.rules.Epoch); err != nil {
				panic(err) // the simulation says what no inspector can say
			}
			w.say(i, row, said)
			if visits[row.Provider]++; said.Verdict.Failed() {
				failed[row.Provider]++
			}
		}
		for _, drawn := range evidence.Drawn(later, inspector(i), w.epoch, len(rows), 20_000) {
			w.conduct[i].Shown(!unvisited[drawn])
		}
		w.note(i)
	}
	for p, n := range visits {
		w.last[p] = evidence.Outcome{Verdict: evidence.Pass}
		if 2*failed[p] > n {
			w.last[p] = evidence.Outcome{Verdict: evidence.Absent}
		}
	}
	w.judge()
	w.epoch++
}

func inspector(i int) (a identity.AccountID) {
	binary.BigEndian.PutUint32(a[:], uint32(i))
	return a
}

// say takes a row in as the ledger does.
func (w *world) say(inspector int, row evidence.Row, said evidence.Outcome) {
	w.rows++
	p, o := int(row.Provider), w.operator[inspector]
	v := &w.views[p*w.operators+o]
	check := v.Add(&w.rules, w.roster.At(p).Class, row.Kind, said, w.epoch)
	if check != evidence.Uncounted {
		n := &w.since[p*w.operators+o]
		*n++
		if check > evidence.Good && v.Sum == 0 {
			w.runs[p] = append(w.runs[p], *n)
			*n = 0
		}
	}
	w.conduct[inspector].Row(said.Verdict != evidence.Omitted)
	for _, c := range w.canaries {
		if c == p {
			w.conduct[inspector].Canary(w.failing[p] < 1, said)
		}
	}
}

// note remembers when an inspector was first found out.
func (w *world) note(inspector int) {
	if w.conduct[inspector].Punish(w.epoch, 144) && w.found[inspector] == 0 {
		w.found[inspector] = w.epoch
	}
}

func (w *world) judge() {
	opinions := make([]evidence.Opinion, w.operators)
	for p := range w.standings {
		for o := range opinions {
			opinions[o] = evidence.Opinion{Weight: w.stake[o], View: &w.views[p*w.operators+o]}
		}
		if w.standings[p].Suspended(w.epoch) {
			w.suspended[p]++
		}
		w.standings[p] = evidence.Judge(&w.rules, w.roster.At(p), w.standings[p], opinions, w.epoch)
		if w.standings[p].Suspended(w.epoch+1) && w.first[p] == 0 {
			w.first[p] = w.epoch
		}
		if w.epoch%16 == 0 {
			w.compare(p, opinions)
		}
	}
}

// compare looks for operators that see something else than all others.
func (w *world) compare(p int, opinions []evidence.Opinion) {
	others := make([]evidence.Opinion, 0, len(opinions)-1)
	for o, own := range opinions {
		others = append(append(others[:0], opinions[:o]...), opinions[o+1:]...)
		if !evidence.Contradicts(&w.rules, w.roster.At(p).Class, own.View, others, w.epoch) {
			continue
		}
		for i, operator := range w.operator {
			if operator == o {
				w.conduct[i].Dissent()
				w.note(i)
			}
		}
	}
}

// visit returns what an honest inspector sees.
func (w *world) visit(row evidence.Row) evidence.Outcome {
	p := int(row.Provider)
	if w.random.Float64() < w.ownMoves {
		return evidence.Outcome{Verdict: evidence.Void, Reason: evidence.OwnMove}
	}
	if w.random.Float64() < w.failing[p] {
		return evidence.Outcome{Verdict: evidence.Absent}
	}
	return good(w.random, row)
}

// good returns an outcome that passes.
func good(r *rand.Rand, row evidence.Row) evidence.Outcome {
	o := evidence.Outcome{Verdict: evidence.Pass, Latency: 15_000 + r.Uint32N(60_000), KiB: 8}
	if row.Kind == evidence.Throughput {
		o.KiB, o.Rate = uint16((row.Size+1023)/1024), 7_000+r.Uint32N(6_000)
	}
	if row.Kind == evidence.Mobility {
		o.Gap = 50 + r.Uint32N(900)
	}
	return o
}
