package sal

import (
	"context"
	"sync"
)

// loopTable holds the sessions of this node with itself.
type loopTable struct {
	mu       sync.Mutex // guards below
	sessions map[*session]struct{}
	closed   bool
}

func (t *loopTable) add(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.sessions == nil {
		t.sessions = make(map[*session]struct{})
	}
	t.sessions[s] = struct{}{}
	return true
}

func (t *loopTable) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sessions, s)
}

func (t *loopTable) heldBytes() (sum int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.sessions {
		sum += s.win.held()
	}
	return sum
}

// abort resets every session and takes no more.
func (t *loopTable) abort() {
	t.mu.Lock()
	t.closed = true
	all := make([]*session, 0, len(t.sessions))
	for s := range t.sessions {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		s.str.CancelWrite(codeReset)
		s.str.CancelRead(codeReset)
	}
}

// openLoop opens a session of this node with itself, without network.
func (n *Node) openLoop(ctx context.Context, r *request, early bool) (*session, error) {
	a, b := newPipe()
	between := &loopLane{}
	dialer := &session{node: n, str: a, lane: loopEnd{between, 0}}
	provider := &session{node: n, str: b, lane: loopEnd{between, 1}}
	if err := n.openSession(dialer); err != nil {
		return nil, err
	}
	if err := n.openSession(provider); err != nil {
		dialer.release()
		return nil, err
	}
	if !n.spawn(func() { n.serve(provider) }) {
		dialer.release()
		provider.release()
		return nil, ErrClosed
	}
	if err := dialer.sendOpen(r); err != nil {
		dialer.abort()
		return nil, err
	}
	if early {
		return dialer, nil
	}
	if err := dialer.awaitUntil(ctx); err != nil {
		dialer.abort()
		return nil, err
	}
	return dialer, nil
}
