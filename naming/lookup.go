package naming

import (
	"context"
	"sync"
	"time"
)

// lookups is a cache of values that are looked up at most once at a time per key.
// A fresh value is returned at once; a stale one is returned at once and looked up
// anew behind the caller's back; anything else is waited for.
//
// Values and their lifetimes are the owner's: fetch makes one from the old one.
type lookups[K comparable, V any] struct {
	// constant after newLookups
	fetch   func(ctx context.Context, key K, old V, had bool) (v V, fresh, stale time.Duration)
	clock   func() time.Time
	timeout time.Duration
	limit   int // lookups under way
	size    int // values kept
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex // guards below
	closed  bool
	values  map[K]*lookup[V]
	flights map[K]*flight[V]

	fetched, refused uint64
}

type lookup[V any] struct {
	value        V
	fresh, stale time.Time // given without asking until fresh, while asking until stale
}

// flight is a lookup under way. value is constant once done is closed.
type flight[V any] struct {
	done  chan struct{}
	value V
	keep  bool // false after Forget: the answer may predate what made it necessary
}

func newLookups[K comparable, V any](clock func() time.Time, timeout time.Duration, limit, size int,
	fetch func(ctx context.Context, key K, old V, had bool) (v V, fresh, stale time.Duration),
) *lookups[K, V] {
	ctx, cancel := context.WithCancel(context.Background())
	return &lookups[K, V]{
		fetch: fetch, clock: clock, timeout: timeout, limit: limit, size: size, ctx: ctx, cancel: cancel,
		values: make(map[K]*lookup[V]), flights: make(map[K]*flight[V]),
	}
}

// Get returns the value of the key. ok is false when ctx ended first, too many
// lookups are under way, or after Close.
func (l *lookups[K, V]) Get(ctx context.Context, key K) (v V, ok bool) {
	l.mu.Lock()
	now := l.clock()
	e := l.values[key]
	if e != nil && now.Before(e.fresh) {
		l.mu.Unlock()
		return e.value, true
	}
	f := l.startLocked(key, e)
	l.mu.Unlock()
	if e != nil && now.Before(e.stale) {
		return e.value, true
	}
	if f == nil {
		return v, false
	}
	select {
	case <-f.done:
		return f.value, true
	case <-ctx.Done():
		return v, false
	}
}

// startLocked returns the lookup of the key under way, a new one if there is none,
// or nil over capacity.
func (l *lookups[K, V]) startLocked(key K, e *lookup[V]) *flight[V] {
	if f := l.flights[key]; f != nil {
		return f
	}
	if l.closed || len(l.flights) >= l.limit {
		l.refused++
		return nil
	}
	f := &flight[V]{done: make(chan struct{}), keep: true}
	l.flights[key] = f
	l.fetched++
	// Ends by itself after the timeout, or with Close.
	l.wg.Go(func() {
		var old V
		if e != nil {
			old = e.value
		}
		ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
		defer cancel()
		v, fresh, stale := l.fetch(ctx, key, old, e != nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		f.value = v
		if l.flights[key] == f {
			delete(l.flights, key)
		}
		if f.keep {
			l.makeRoomLocked(key)
			now := l.clock()
			l.values[key] = &lookup[V]{value: v, fresh: now.Add(fresh), stale: now.Add(fresh + stale)}
		}
		close(f.done)
	})
	return f
}

// makeRoomLocked drops values until there is room for the key: a few of those the
// map yields first, the one soonest to be of no use.
func (l *lookups[K, V]) makeRoomLocked(key K) {
	if l.values[key] != nil {
		return
	}
	for len(l.values) >= l.size {
		var victim K
		var when time.Time
		seen := 0
		for k, e := range l.values {
			if seen == 0 || e.stale.Before(when) {
				victim, when = k, e.stale
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(l.values, victim)
	}
}

// Forget drops the value, and the answer of a lookup under way once it arrives.
func (l *lookups[K, V]) Forget(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.values, key)
	if f := l.flights[key]; f != nil {
		f.keep = false
		delete(l.flights, key)
	}
}

// Stats returns the values kept, lookups made and lookups refused.
func (l *lookups[K, V]) Stats() (kept int, fetched, refused uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.values), l.fetched, l.refused
}

// Close ends the lookups under way and waits for them.
func (l *lookups[K, V]) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.wg.Wait()
}
