package underlay

import (
	"context"
	"sync"
)

// notices runs the callbacks of Config one after the other, so that neither the
// data path nor the engine waits for them.
type notices struct {
	mu    sync.Mutex // guards all below
	queue []func()
	wake  chan struct{}
}

func (s *Socket) notify(f func()) {
	s.notices.mu.Lock()
	s.notices.queue = append(s.notices.queue, f)
	s.notices.mu.Unlock()
	select {
	case s.notices.wake <- struct{}{}:
	default:
	}
}

func (n *notices) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for {
			n.mu.Lock()
			queue := n.queue
			n.queue = nil
			n.mu.Unlock()
			if len(queue) == 0 {
				break
			}
			for _, f := range queue {
				if ctx.Err() != nil {
					return
				}
				f()
			}
		}
	}
}
