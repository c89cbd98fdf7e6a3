package proofofservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/proofofservice/evidence"
)

// Ledger is what an inspector needs of the ledger. It is the daemon's.
type Ledger interface {
	// Epochs returns the epochs this inspector is on the roster of: the running one, the
	// next when its seed is known, and those before of which a reveal or an answer may
	// still be wanted.
	Epochs(ctx context.Context) ([]Epoch, error)
	// Post brings a message onto the ledger. It returns nil as well when the same
	// message is there already.
	Post(ctx context.Context, m Message) error
	// Challenges returns the rows of this inspector's that are to be shown.
	Challenges(ctx context.Context) ([]evidence.Challenge, error)
	// Answer brings an answer onto the ledger.
	Answer(ctx context.Context, a evidence.Answer) error
}

// Visitor makes visits; a Shopper does.
type Visitor interface {
	Visit(ctx context.Context, v Visit) Sighting
}

// Config configures an Inspector. The zero value is valid.
type Config struct {
	// Parallel is how many visits are under way at once at most. Default 16, 1 to 256.
	// What finds no room in its window is omitted.
	Parallel int
	// Poll is how often the ledger is asked for epochs and challenges. Default a
	// twentieth of an epoch, from 100 ms to 30 s. 10 ms to 10 m.
	Poll time.Duration
	// Clock tells the time of day, and Monotonic any time that never jumps. Default
	// time.Now and the time since the inspector was made.
	Clock     func() time.Time
	Monotonic func() time.Duration
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Parallel == 0 {
		c.Parallel = 16
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Monotonic == nil {
		start := time.Now()
		c.Monotonic = func() time.Duration { return time.Since(start) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	if d := c.withDefaults(); d.Parallel < 1 || d.Parallel > 256 {
		errs = append(errs, fmt.Errorf("proofofservice: %d visits at once, they are 1 to 256", d.Parallel))
	}
	if c.Poll != 0 && (c.Poll < 10*time.Millisecond || c.Poll > 10*time.Minute) {
		errs = append(errs, fmt.Errorf("proofofservice: polling every %s is outside 10ms to 10m", c.Poll))
	}
	return errors.Join(errs...)
}

// Metrics counts what an inspector did.
type Metrics struct {
	Visits, Passed, Failed, Void uint64
	Anomalies                    uint64
	Commits, Reveals, Answers    uint64
	// Errors are of the ledger and the store.
	Errors uint64
}

// Inspector runs a Core: it asks the ledger for epochs, has visits made, keeps what
// they saw, and posts.
type Inspector struct {
	ledger  Ledger
	visitor Visitor
	store   *Store
	watch   *Watch
	cfg     Config

	moved   chan struct{}
	counted struct {
		visits, passed, failed, void, anomalies, commits, reveals, answers, errors atomic.Uint64
	}

	// Owned by Run.
	core    *Core
	asked   bool                 // the ledger was asked once
	polled  time.Duration        // when it was asked last, by the monotonic clock
	poll    time.Duration        // how often it is asked
	failing bool                 // the last talk with it failed
	open    []evidence.Challenge // that were not answered yet
}

// New returns an inspector. It owns none of what it is given.
func New(keys Keys, ledger Ledger, visitor Visitor, store *Store, cfg Config) (*Inspector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	core, err := NewCore(keys)
	if err != nil {
		return nil, err
	}
	return &Inspector{
		ledger: ledger, visitor: visitor, store: store, watch: NewWatch(), cfg: cfg.withDefaults(),
		moved: make(chan struct{}, 1), core: core, poll: cmp.Or(cfg.Poll, time.Second),
	}, nil
}

// Watch returns what the inspector measured lately.
func (i *Inspector) Watch() *Watch { return i.watch }

// Moved says that this node moved: see Core.Interrupt. It never waits.
func (i *Inspector) Moved() {
	select {
	case i.moved <- struct{}{}:
	default: // Run has not heard of the last one yet
	}
}

// Metrics returns a snapshot.
func (i *Inspector) Metrics() Metrics {
	c := &i.counted
	return Metrics{
		Visits: c.visits.Load(), Passed: c.passed.Load(), Failed: c.failed.Load(), Void: c.void.Load(),
		Anomalies: c.anomalies.Load(), Commits: c.commits.Load(), Reveals: c.reveals.Load(),
		Answers: c.answers.Load(), Errors: c.errors.Load(),
	}
}

// finished is a visit that came to an end.
type finished struct {
	visit Visit
	seen  Sighting
}

// Run inspects until ctx is done, and returns nil then. Visits that are under way are
// cut, and omitted in the report: what came of them is not known. Troubles of the
// ledger and the store are logged, and tried again.
func (i *Inspector) Run(ctx context.Context) error {
	working, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	visited := make(chan finished)
	exchanged := make(chan exchange)
	talking, room := false, i.cfg.Parallel
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := i.cfg.Clock()
		visits := i.core.Tick(now, i.cfg.Monotonic(), room)
		if len(visits) > 0 {
			i.save() // so that none is made twice, whatever happens
		}
		room -= len(visits)
		for _, v := range visits {
			wg.Go(func() {
				seen := i.visitor.Visit(working, v)
				select {
				case visited <- finished{v, seen}:
				case <-working.Done():
				}
			})
		}
		if x, due := i.prepare(now); due && !talking {
			talking = true
			wg.Go(func() {
				x.talk(working, i.ledger)
				select {
				case exchanged <- x:
				case <-working.Done():
				}
			})
		}
		timer.Reset(i.wait(now))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-i.moved:
			i.core.Interrupt(evidence.OwnMove)
		case f := <-visited:
			room++
			i.finish(f)
		case x := <-exchanged:
			talking = false
			i.take(x)
		}
	}
}

// wait returns how long nothing happens by itself.
func (i *Inspector) wait(now time.Time) time.Duration {
	return max(min(i.core.Next(now).Sub(now), i.poll), time.Millisecond)
}

// finish takes a visit in.
func (i *Inspector) finish(f finished) {
	now := i.cfg.Clock()
	// A clock that stepped during the visit is noticed before its end is believed.
	i.core.note(now, i.cfg.Monotonic())
	o, err := i.core.Finish(f.visit.Epoch, f.visit.Row, f.seen, now)
	if err != nil {
		i.trouble(err)
		return
	}
	i.counted.visits.Add(1)
	switch {
	case o.Verdict == evidence.Pass:
		i.counted.passed.Add(1)
	case o.Verdict.Failed():
		i.counted.failed.Add(1)
	default:
		i.counted.void.Add(1)
	}
	p := Point{Service: f.visit.Provider.Service, Node: f.visit.Provider.Node, At: now, Kind: f.visit.Planned.Kind, Outcome: o}
	if err := i.store.Add(p); err != nil {
		i.trouble(err)
	}
	if i.watch.Add(p) {
		i.counted.anomalies.Add(1)
		i.cfg.Logger.Info("provider out of its ordinary", "service", p.Service.Short(), "node", p.Node.Short(), "kind", p.Kind.String())
	}
	i.keep(f.visit.Epoch)
}

// exchange is one talk with the ledger. It runs beside the loop, which must not wait:
// visits begin within their windows.
type exchange struct {
	messages []Message
	answers  []evidence.Answer
	ask      bool

	posted     []Message
	answered   []evidence.Challenge
	epochs     []Epoch
	challenges []evidence.Challenge
	errs       []error
}

// talk does all of it, one after the other.
func (x *exchange) talk(ctx context.Context, ledger Ledger) {
	ctx, cancel := context.WithTimeout(ctx, talkTimeout)
	defer cancel()
	note := func(what string, err error) bool {
		if err != nil {
			x.errs = append(x.errs, fmt.Errorf("%s: %w", what, err))
		}
		return err == nil
	}
	for _, m := range x.messages {
		if note("post", ledger.Post(ctx, m)) {
			x.posted = append(x.posted, m)
		}
	}
	for _, a := range x.answers {
		if note("answer", ledger.Answer(ctx, a)) {
			x.answered = append(x.answered, challengeOf(a))
		}
	}
	if !x.ask {
		return
	}
	var err error
	x.epochs, err = ledger.Epochs(ctx)
	note("ask for epochs", err)
	x.challenges, err = ledger.Challenges(ctx)
	note("ask for challenges", err)
}

// talkTimeout is how long one talk with the ledger takes at most.
const talkTimeout = 20 * time.Second

func challengeOf(a evidence.Answer) evidence.Challenge {
	return evidence.Challenge{Epoch: a.Epoch, Inspector: a.Inspector, Row: a.Detail.Row}
}

// prepare returns what there is to say to the ledger, and whether it is time to. What
// is to be posted is on the disk before.
func (i *Inspector) prepare(now time.Time) (x exchange, due bool) {
	mono := i.cfg.Monotonic()
	x.ask = !i.asked || mono-i.polled >= i.poll
	if !x.ask && i.failing {
		return exchange{}, false // not before it is asked again
	}
	for _, m := range i.core.Ready(now) {
		if i.keep(m.epoch()) {
			x.messages = append(x.messages, m)
		}
	}
	for _, c := range i.open {
		a, err := i.core.Answer(c)
		if err != nil {
			i.trouble(err)
			continue
		}
		x.answers = append(x.answers, a)
	}
	i.open = nil // the ledger tells of those that stay open
	return x, x.ask || len(x.messages)+len(x.answers) > 0
}

// take takes in what the ledger said.
func (i *Inspector) take(x exchange) {
	i.failing = len(x.errs) > 0
	for _, err := range x.errs {
		i.trouble(err)
	}
	for _, m := range x.posted {
		i.core.Posted(m)
		i.keep(m.epoch())
		if _, ok := m.(Commitment); ok {
			i.counted.commits.Add(1)
		} else {
			i.counted.reveals.Add(1)
		}
	}
	i.counted.answers.Add(uint64(len(x.answered)))
	for _, c := range x.challenges {
		if !slices.Contains(x.answered, c) {
			i.open = append(i.open, c)
		}
	}
	if !x.ask {
		return
	}
	i.asked, i.polled = true, i.cfg.Monotonic()
	for _, e := range x.epochs {
		i.begin(e)
	}
}

// begin makes the plan of an epoch, and goes on with its report if there is one.
func (i *Inspector) begin(e Epoch) {
	if e.Roster == nil || i.core.find(e.Epoch) != nil {
		return
	}
	rules := e.Roster.Rules()
	if i.cfg.Poll == 0 {
		i.poll = min(max(time.Duration(rules.Epoch)*time.Millisecond/20, 100*time.Millisecond), 30*time.Second)
	}
	now := i.cfg.Clock()
	i.core.Begin(e, now)
	state, err := i.store.LoadEpoch(e.Epoch)
	if err == nil && state != nil {
		err = i.core.Restore(state)
	}
	old := 2*uint64(rules.Keep) + 2
	if err := errors.Join(err, i.store.ForgetEpochs(e.Epoch-min(e.Epoch, old)), i.store.Trim(now)); err != nil {
		i.trouble(err)
	}
}

// save keeps the reports of all epochs under way.
func (i *Inspector) save() {
	for _, w := range i.core.works {
		if w.stage == inspecting {
			i.keep(w.Frame.Epoch)
		}
	}
}

// keep stores the state of an epoch's report, and reports whether that went well.
func (i *Inspector) keep(epoch uint64) bool {
	state, err := i.core.State(epoch)
	if err == nil {
		err = i.store.SaveEpoch(epoch, state)
	}
	if err != nil {
		i.trouble(err)
	}
	return err == nil
}

func (i *Inspector) trouble(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	i.counted.errors.Add(1)
	i.cfg.Logger.Warn("inspection", "err", err)
}
