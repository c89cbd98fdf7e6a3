package routing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p-kad-dht/records"
	recpb "github.com/libp2p/go-libp2p-record/pb"
)

// ErrInvalid is returned by Find and Store for a key that names no record, and a
// record that is not valid under its key.
var ErrInvalid = errors.New("routing: not a valid record")

// Delegate is another node that looks records up and publishes them for this one,
// by another way than the DHT's own: a session.
type Delegate interface {
	// Get yields the records found under a key, better ones as they come. The last
	// element is an error when the lookup did not end well, ErrNotFound when the
	// other node looked and found nothing.
	Get(ctx context.Context, key string) iter.Seq2[[]byte, error]
	// Put publishes a record. ErrNoPeers says that there is nobody to ask.
	Put(ctx context.Context, key string, value []byte) error
}

// delegateAfter is how long the DHT has to answer before the delegate is asked too.
// A node without DHT peers does not wait.
const delegateAfter = time.Second

// askDelegate asks the delegate for a record beside the lookup under way, if that
// does not answer. What it finds is checked as anybody's.
func (r *Router) askDelegate(ctx context.Context, key string, f *flight, t *tally) {
	for waited := time.Duration(0); waited < delegateAfter && r.joined(); waited += delegateAfter / 20 {
		if !sleep(ctx, delegateAfter/20) || t.answers.Load() > 0 {
			return
		}
	}
	r.counters.delegatedLookups.Add(1)
	for value, err := range r.cfg.Delegate.Get(ctx, key) {
		switch {
		case errors.Is(err, ErrNotFound):
			t.answers.Add(1)
		case err != nil:
			r.log.Debug("delegate found nothing", "key", key, "err", err)
		case r.learn(key, value):
			t.answers.Add(1)
			r.counters.delegatedFound.Add(1)
			f.add()
		}
	}
}

// putByDelegate has the delegate publish a record. It reports whether there was
// somebody to ask, and whether the record is stored.
func (r *Router) putByDelegate(ctx context.Context, key string, value []byte) (tried, stored bool) {
	r.counters.delegatedPuts.Add(1)
	err := r.cfg.Delegate.Put(ctx, key, value)
	if err != nil {
		r.counters.putFailures.Add(1)
		r.log.Debug("delegate did not put", "key", key, "err", err)
		return !errors.Is(err, ErrNoPeers), false
	}
	r.counters.putAcks.Add(1)
	return true, true
}

// Find looks a record up for somebody else: it yields the valid values under a DHT
// key, better ones as they come, and at the end an error if there was none. It
// never asks this node's own delegate, so that two nodes cannot ask each other in
// a circle. A node without DHT peers answers from what it holds.
func (r *Router) Find(ctx context.Context, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if _, err := parseKey(key); err != nil {
			yield(nil, fmt.Errorf("%w: %w", ErrInvalid, err))
			return
		}
		r.counters.servedLookups.Add(1)
		var last []byte
		answer := func() (more bool) {
			value := r.atHand(ctx, key)
			if value == nil || bytes.Equal(value, last) {
				return true
			}
			last = value
			return yield(value, nil)
		}
		if !answer() {
			return
		}
		err := ErrNotFound
		if r.joined() {
			var left bool
			if left, err = r.follow(ctx, key, answer); left {
				return
			}
		}
		if len(last) == 0 && err != nil {
			yield(nil, err)
		}
	}
}

// follow has answer look again at every news of a lookup. left says that the
// listener has enough.
func (r *Router) follow(ctx context.Context, key string, answer func() bool) (left bool, err error) {
	f, err := r.flyFor(key, time.Now().Add(-sharedLookup), true)
	if err != nil {
		return false, err
	}
	for seen, ended := 0, false; !ended; {
		seen, ended, err = f.wait(ctx, seen)
		if err != nil && !ended {
			return false, timedOut(err)
		}
		if !answer() {
			return true, nil
		}
	}
	return false, err
}

// atHand is the newest valid value this node has, found or held for others; nil
// without one.
func (r *Router) atHand(ctx context.Context, key string) []byte {
	e, ok := r.current(key)
	rec, err := r.values.Get(ctx, key)
	if err != nil || rec == nil {
		return e.value
	}
	o, err := r.validator.open(key, rec.GetValue())
	if err == nil && (!ok || compare(o, rec.GetValue(), e.opened, e.value) > 0) {
		return rec.GetValue()
	}
	return e.value
}

// Store publishes a record for somebody else, once: here and at the nodes closest
// to its key. It succeeds when at least one node has it, this one included.
func (r *Router) Store(ctx context.Context, key string, value []byte) error {
	if err := r.validator.Validate(key, value); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r.counters.servedPuts.Add(1)
	here := r.values.Put(ctx, key, &recpb.Record{Key: []byte(key), Value: value})
	r.heard(key, value)
	_, err := r.putAt(ctx, key, value, false)
	if here == nil || errors.Is(here, records.ErrOldRecord) {
		return nil
	}
	return err
}
