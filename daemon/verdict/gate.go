package verdict

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"scn.alt/scn/routing/identity"
)

// failure is an error that is also one of the standard library's.
type failure struct {
	text string
	is   error
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Is(target error) bool { return target == f.is }

// Errors of a Gate.
var (
	// ErrTimeout is returned when nobody decided in time; it is os.ErrDeadlineExceeded.
	ErrTimeout error = &failure{"verdict: nobody decided in time", os.ErrDeadlineExceeded}
	// ErrFull is returned when too many sessions are held; it is syscall.EAGAIN.
	ErrFull error = &failure{"verdict: too many sessions wait for a decision", syscall.EAGAIN}
	// ErrUnknown is returned for a question nobody has.
	ErrUnknown = errors.New("verdict: no such question")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("verdict: closed")
)

// Config configures a Gate. The zero value is valid: the user alone decides.
type Config struct {
	// Judge answers questions. Default: only the user does.
	Judge Judge
	// Timeout is how long a session is held. Default 10 s, 100 ms to 5 m; dialers
	// give up after 20 s unless they are told otherwise.
	Timeout time.Duration
	// MaxHeld bounds the sessions held in all. Default 256, 1 to 65,536; each question is
	// a process.
	MaxHeld int
	// MaxPerService bounds those of one service. Default 64.
	MaxPerService int
	// MaxPerPeer bounds those of one peer, so that one cannot keep others from being
	// asked about. Default 16.
	MaxPerPeer int
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
	// Logger receives failures of the program. Default: discard.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxHeld = cmp.Or(c.MaxHeld, 256)
	c.MaxPerService = cmp.Or(c.MaxPerService, 64)
	c.MaxPerPeer = cmp.Or(c.MaxPerPeer, 16)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault.
func (c Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	if d.Timeout < 100*time.Millisecond || d.Timeout > 5*time.Minute {
		errs = append(errs, fmt.Errorf("verdict: timeout %s is outside 100ms to 5m", d.Timeout))
	}
	for name, n := range map[string]int{"MaxHeld": d.MaxHeld, "MaxPerService": d.MaxPerService, "MaxPerPeer": d.MaxPerPeer} {
		if n < 1 || n > 1<<16 {
			errs = append(errs, fmt.Errorf("verdict: %s %d is outside 1 to 65536", name, n))
		}
	}
	return errors.Join(errs...)
}

// Bounds of what a Gate remembers.
const (
	maxRemembered = 4096
	maxMissed     = 64
)

// Gate holds sessions until somebody has decided.
type Gate struct {
	cfg    Config          // constant, as all of this block
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the programs

	mu         sync.Mutex // guards below
	closed     bool
	number     uint64
	open       map[Key]*pending
	held       int
	ofService  map[string]int
	ofPeer     map[identity.NodeID]int
	remembered map[Key]Remembered
	missed     []Question // oldest first
	wakes      map[string]*wake
	metrics    Metrics
}

// pending is a question without an answer yet.
type pending struct {
	Question
	done   chan struct{} // closed when decided
	answer Answer
	err    error
	over   bool
	cancel context.CancelFunc
}

// Remembered is an answer that is still good.
type Remembered struct {
	Question
	Answer
	Until time.Time
}

// Metrics is a snapshot of a Gate's counters.
type Metrics struct {
	// Held are the sessions that wait now.
	Held int64
	// Asked are the questions, FromCache those answered from memory.
	Asked, FromCache uint64
	// Allowed, Denied and Paid are the sessions by their answer; Timeouts and Full
	// those nobody decided, or could be asked about.
	Allowed, Denied, Paid, Timeouts, Full uint64
	// Failures are programs that crashed, or gave no proper answer.
	Failures uint64
}

// New makes a Gate. Close ends it.
func New(cfg Config) (*Gate, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gate{
		cfg: cfg.withDefaults(), open: map[Key]*pending{}, ofService: map[string]int{}, ofPeer: map[identity.NodeID]int{},
		remembered: map[Key]Remembered{}, wakes: map[string]*wake{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// Close ends every question and program, and waits for them.
func (g *Gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
	return nil
}

// Hold waits for the answer to a question, until ctx ends or the time is over. The
// session counts as held until release is called, which may be called more than once
// and must be called even after an error.
func (g *Gate) Hold(ctx context.Context, key Key, id identity.ServiceID) (_ Answer, release func(), err error) {
	g.mu.Lock()
	if r, ok := g.recallLocked(key); ok {
		g.metrics.FromCache++
		g.countLocked(r.Answer, nil)
		g.mu.Unlock()
		return r.Answer, func() {}, nil
	}
	p, err := g.askLocked(key, id)
	if err != nil {
		g.countLocked(Answer{}, err)
		g.mu.Unlock()
		return Answer{}, func() {}, err
	}
	g.held++
	g.ofService[key.Service]++
	g.ofPeer[key.Node]++
	g.mu.Unlock()
	release = sync.OnceFunc(func() { g.release(key) })
	select {
	case <-p.done:
	case <-ctx.Done():
		return Answer{}, release, context.Cause(ctx) // the answer may still serve the next try
	}
	g.mu.Lock()
	g.countLocked(p.answer, p.err)
	g.mu.Unlock()
	return p.answer, release, p.err
}

// askLocked returns the open question of a key, made if need be.
func (g *Gate) askLocked(key Key, id identity.ServiceID) (*pending, error) {
	switch {
	case g.closed:
		return nil, ErrClosed
	case g.held >= g.cfg.MaxHeld || g.ofService[key.Service] >= g.cfg.MaxPerService || g.ofPeer[key.Node] >= g.cfg.MaxPerPeer:
		return nil, ErrFull
	}
	if p := g.open[key]; p != nil {
		return p, nil
	}
	// Questions whose sessions gave up are still there, with their process.
	if len(g.open) >= g.cfg.MaxHeld || g.countOpenLocked(key) {
		return nil, ErrFull
	}
	g.number++
	g.metrics.Asked++
	now := g.cfg.Clock()
	p := &pending{done: make(chan struct{}), Question: Question{
		Key: key, ServiceID: id, ID: fmt.Sprintf("q%d", g.number), Since: now, Deadline: now.Add(g.cfg.Timeout),
	}}
	var ctx context.Context
	ctx, p.cancel = context.WithTimeoutCause(g.ctx, g.cfg.Timeout, ErrTimeout)
	g.open[key] = p
	if g.cfg.Judge == nil {
		g.cfg.Logger.Info("a session waits for the user's decision", "question", p.ID, "service", key.Service, "peer", key.Node.Short())
	}
	g.wg.Go(func() { g.judge(ctx, p) })
	return p, nil
}

// countOpenLocked reports whether a service or peer has as many questions as it may.
func (g *Gate) countOpenLocked(key Key) bool {
	service, peer := 0, 0
	for k := range g.open {
		if k.Service == key.Service {
			service++
		}
		if k.Node == key.Node {
			peer++
		}
	}
	return service >= g.cfg.MaxPerService || peer >= g.cfg.MaxPerPeer
}

// judge runs one question to its end.
func (g *Gate) judge(ctx context.Context, p *pending) {
	defer p.cancel()
	answer := Answer{Kind: AskUser}
	var err error
	if g.cfg.Judge != nil {
		if answer, err = g.cfg.Judge(ctx, p.Question); err != nil && ctx.Err() == nil {
			g.mu.Lock()
			g.metrics.Failures++
			g.mu.Unlock()
			g.cfg.Logger.Warn("verdict program failed: the session is denied", "service", p.Service, "peer", p.Node.Short(), "err", err)
			answer, err = Answer{Kind: Deny, Reason: "the program that decides failed"}, nil
		}
	}
	if err == nil && answer.Kind == AskUser {
		<-ctx.Done() // the user ends it, or the time
	}
	if err != nil || answer.Kind == AskUser {
		err = context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finishLocked(p, answer, err)
}

// finishLocked ends a question, unless somebody was faster.
func (g *Gate) finishLocked(p *pending, a Answer, err error) {
	if p.over {
		return
	}
	p.over, p.answer, p.err = true, a, err
	delete(g.open, p.Key)
	close(p.done)
	switch {
	case errors.Is(err, ErrTimeout):
		g.missed = append(slices.DeleteFunc(g.missed, func(q Question) bool { return q.Key == p.Key }), p.Question)
		if len(g.missed) > maxMissed {
			g.missed = slices.Delete(g.missed, 0, len(g.missed)-maxMissed)
		}
	case err == nil:
		g.rememberLocked(p.Question, a)
	}
}

// rememberLocked keeps an answer for as long as it is good.
func (g *Gate) rememberLocked(q Question, a Answer) {
	if a.Cache <= 0 {
		return
	}
	now := g.cfg.Clock()
	if len(g.remembered) >= maxRemembered {
		first, until := Key{}, time.Time{}
		for k, r := range g.remembered {
			if until.IsZero() || r.Until.Before(until) {
				first, until = k, r.Until
			}
		}
		delete(g.remembered, first)
	}
	g.remembered[q.Key] = Remembered{Question: q, Answer: a, Until: now.Add(min(a.Cache, MaxCache))}
}

func (g *Gate) recallLocked(key Key) (Remembered, bool) {
	r, ok := g.remembered[key]
	if ok && !g.cfg.Clock().Before(r.Until) {
		delete(g.remembered, key)
		return Remembered{}, false
	}
	return r, ok
}

func (g *Gate) release(key Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	if g.ofService[key.Service]--; g.ofService[key.Service] == 0 {
		delete(g.ofService, key.Service)
	}
	if g.ofPeer[key.Node]--; g.ofPeer[key.Node] == 0 {
		delete(g.ofPeer, key.Node)
	}
}

func (g *Gate) countLocked(a Answer, err error) {
	switch {
	case errors.Is(err, ErrFull):
		g.metrics.Full++
	case err != nil:
		g.metrics.Timeouts++
	case a.Kind == Deny:
		g.metrics.Denied++
	case a.Kind == Pay:
		g.metrics.Paid++
	default:
		g.metrics.Allowed++
	}
}

// Decide answers a question for the user: one that is open, or one that was missed,
// whose answer serves the next try.
func (g *Gate) Decide(id string, a Answer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.open {
		if p.ID == id {
			g.finishLocked(p, a, nil)
			p.cancel()
			return nil
		}
	}
	i := slices.IndexFunc(g.missed, func(q Question) bool { return q.ID == id })
	if i < 0 {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	q := g.missed[i]
	g.missed = slices.Delete(g.missed, i, i+1)
	g.rememberLocked(q, a)
	return nil
}

// Forget drops a remembered answer, or a question that was missed.
func (g *Gate) Forget(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, r := range g.remembered {
		if r.ID == id {
			delete(g.remembered, k)
			return nil
		}
	}
	i := slices.IndexFunc(g.missed, func(q Question) bool { return q.ID == id })
	if i < 0 {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	g.missed = slices.Delete(g.missed, i, i+1)
	return nil
}

// Questions returns the open questions and the missed ones, oldest first.
func (g *Gate) Questions() (open, missed []Question) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.open {
		open = append(open, p.Question)
	}
	slices.SortFunc(open, func(a, b Question) int { return a.Since.Compare(b.Since) })
	return open, slices.Clone(g.missed)
}

// Answers returns the answers that are remembered, the next to expire first.
func (g *Gate) Answers() []Remembered {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Remembered, 0, len(g.remembered))
	now := g.cfg.Clock()
	for _, r := range g.remembered {
		if now.Before(r.Until) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Remembered) int { return a.Until.Compare(b.Until) })
	return out
}

// Metrics returns the counters.
func (g *Gate) Metrics() Metrics {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.metrics
	m.Held = int64(g.held)
	return m
}
