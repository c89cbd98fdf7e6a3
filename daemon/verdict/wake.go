package verdict

import (
	"context"
	"strings"
	"time"

	"scn.alt/scn/daemon/program"
)

// Bounds of waking.
const (
	wakeTimeout = 30 * time.Second
	wakeAgain   = 10 * time.Second // before the same command is run again
	maxWakes    = 64
)

// wake is a command that runs, or ran a moment ago.
type wake struct {
	done  chan struct{}
	begun time.Time
	over  bool
	err   error
}

// Wake runs a command that wakes a target, and waits until it has ended or ctx ends.
// Those who want the same command within ten seconds share one run of it.
func (g *Gate) Wake(ctx context.Context, command []string) error {
	key := strings.Join(command, "\x00")
	g.mu.Lock()
	now := g.cfg.Clock()
	for k, w := range g.wakes {
		if w.over && now.Sub(w.begun) >= wakeAgain {
			delete(g.wakes, k)
		}
	}
	w := g.wakes[key]
	switch {
	case w != nil:
	case g.closed:
		g.mu.Unlock()
		return ErrClosed
	case len(g.wakes) >= maxWakes:
		g.mu.Unlock()
		return ErrFull
	default:
		w = &wake{done: make(chan struct{}), begun: now}
		g.wakes[key] = w
		g.wg.Go(func() { g.runWake(w, command) })
	}
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gate) runWake(w *wake, command []string) {
	ctx, cancel := context.WithTimeoutCause(g.ctx, wakeTimeout, ErrTimeout)
	defer cancel()
	_, err := program.Run(ctx, command, nil)
	if err != nil {
		g.cfg.Logger.Warn("wake command failed", "err", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w.over, w.err = true, err
	close(w.done)
}
