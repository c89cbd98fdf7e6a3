package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Config says how often a check is tried and what follows. The zero value is valid.
type Config struct {
	// Interval is the time between two tries. Default 5 s; 100 ms to 1 h.
	Interval time.Duration
	// Rise is how many successes in a row make a failing service healthy. Default 2.
	Rise int
	// Fall is how many failures in a row make a healthy service fail. Default 3.
	Fall int
}

// WithDefaults returns the configuration with what was left out.
func (c Config) WithDefaults() Config {
	c.Interval = cmp.Or(c.Interval, 5*time.Second)
	c.Rise, c.Fall = cmp.Or(c.Rise, 2), cmp.Or(c.Fall, 3)
	return c
}

// Validate reports every fault.
func (c Config) Validate() error {
	d := c.WithDefaults()
	var errs []error
	if d.Interval < 100*time.Millisecond || d.Interval > time.Hour {
		errs = append(errs, fmt.Errorf("health: interval %s is outside 100ms to 1h", d.Interval))
	}
	for name, n := range map[string]int{"rise": d.Rise, "fall": d.Fall} {
		if n < 1 || n > 100 {
			errs = append(errs, fmt.Errorf("health: %s %d is outside 1 to 100", name, n))
		}
	}
	return errors.Join(errs...)
}

// State is how a service is doing.
type State struct {
	// Healthy services take sessions. Before the first try they are.
	Healthy bool
	// Since is when that last changed, Checked when it was last tried; zero before.
	Since, Checked time.Time
	// Err is why the last try failed; nil after a success.
	Err error
	// Tries and Failures are how many there were.
	Tries, Failures int64
}

// Tracker counts tries. It reads no clock.
type Tracker struct {
	rise, fall int
	state      State
	row        int // tries in a row that speak against Healthy
}

// NewTracker returns a Tracker of a service not tried yet.
func NewTracker(c Config) *Tracker {
	c = c.WithDefaults()
	return &Tracker{rise: c.Rise, fall: c.Fall, state: State{Healthy: true}}
}

// Observe notes the outcome of a try and reports whether Healthy has changed.
func (t *Tracker) Observe(err error, now time.Time) bool {
	s := &t.state
	s.Tries++
	s.Checked, s.Err = now, err
	if err != nil {
		s.Failures++
	}
	if s.Healthy == (err == nil) {
		t.row = 0
		if s.Tries == 1 {
			s.Since = now
		}
		return false
	}
	t.row++
	limit := t.rise
	if s.Healthy {
		limit = t.fall
	}
	if s.Tries > 1 && t.row < limit {
		return false
	}
	s.Healthy, s.Since, t.row = !s.Healthy, now, 0
	return true
}

// State returns how the service is doing.
func (t *Tracker) State() State { return t.state }

// Monitor tries a check at its interval.
type Monitor struct {
	try      func(context.Context) error
	interval time.Duration
	changed  func(State)
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex // guards below
	tracker *Tracker
}

// Start begins to try; changed, unless nil, is told of each change of Healthy. Close
// ends it.
func Start(try func(context.Context) error, c Config, changed func(State)) *Monitor {
	c = c.WithDefaults()
	m := &Monitor{try: try, interval: c.Interval, changed: changed, tracker: NewTracker(c)}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.wg.Go(func() { m.run(ctx) })
	return m
}

// Close ends the tries and waits for one under way.
func (m *Monitor) Close() error {
	m.cancel()
	m.wg.Wait()
	return nil
}

// State returns how the service is doing.
func (m *Monitor) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tracker.State()
}

func (m *Monitor) run(ctx context.Context) {
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeoutCause(ctx, timeoutOf(m.interval), errSlow)
		err := m.try(try)
		if err != nil && try.Err() != nil && errors.Is(context.Cause(try), errSlow) {
			err = fmt.Errorf("%w (%s)", errSlow, timeoutOf(m.interval))
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		news := m.tracker.Observe(err, time.Now())
		state := m.tracker.State()
		m.mu.Unlock()
		if news && m.changed != nil {
			m.changed(state)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// errSlow is the failure of a check that took too long.
var errSlow = errors.New("no answer in time")
