package routing

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// keepers is how many kept records are put at once.
const keepers = 4

// backstop is when a record is put by the keeper although its publisher is doing
// so, in case that one gave up.
const backstop = 30 * time.Second

// keep puts the kept records anew when they are due, until ctx ends.
func (r *Router) keep(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(keepers)
	defer func() { _ = group.Wait() }() // its tasks return nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		item, pause := r.nextDue(time.Now())
		if item != nil {
			group.Go(func() error {
				if _, err := r.refresh(ctx, item); err == nil || errors.Is(err, ErrNotStored) {
					r.settle(ctx, item)
				}
				return nil
			})
			continue
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// nextDue takes the record that is due off the schedule, or tells when to look
// again.
func (r *Router) nextDue(now time.Time) (*kept, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.schedule) == 0 {
		return nil, time.Minute
	}
	item := r.schedule[0]
	if pause := item.due.Sub(now); pause > 0 {
		return nil, min(pause, time.Minute)
	}
	heap.Pop(&r.schedule)
	return item, 0
}

// hold has a record kept and put when it is due. A newer value held already stays.
// It returns nil after Close.
func (r *Router) hold(key string, value []byte, o opened, signer identity.PrivateKey, due time.Time) *kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	item := r.kept[key]
	if item == nil {
		t, err := parseKey(key)
		if err != nil {
			panic(err) // the key is our own
		}
		item = &kept{key: key, target: t, index: -1}
		r.kept[key] = item
	}
	if !signer.IsZero() {
		item.signer = signer
	}
	if value != nil && (item.value == nil || compare(o, value, item.opened, item.value) > 0) {
		item.value, item.opened, item.made, item.step, item.fails = value, o, time.Now(), 0, 0
	}
	r.dueLocked(item, due)
	return item
}

// drop ends the keeping of a record.
func (r *Router) drop(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item := r.kept[key]; item != nil {
		delete(r.kept, key)
		if item.index >= 0 {
			heap.Remove(&r.schedule, item.index)
		}
	}
}

// dueLocked puts a record into the schedule, or moves it there, and wakes the
// keeper.
func (r *Router) dueLocked(item *kept, due time.Time) {
	if r.kept[item.key] != item {
		return // dropped meanwhile
	}
	item.due = due
	switch {
	case item.index >= 0:
		heap.Fix(&r.schedule, item.index)
	case item.stop != nil:
		item.again = item.again || !due.After(time.Now())
	default:
		heap.Push(&r.schedule, item)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// publish puts a kept record now, in the caller's goroutine.
func (r *Router) publish(ctx context.Context, item *kept) (Receipt, error) {
	if item == nil {
		return Receipt{}, ErrClosed
	}
	return r.refresh(ctx, item)
}

// refresh puts one kept record and says when it is due again. It ends an earlier put
// of the same record: what that one waits for is no longer of interest.
func (r *Router) refresh(ctx context.Context, item *kept) (Receipt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	if item.stop != nil {
		item.stop()
	}
	if item.index >= 0 {
		heap.Remove(&r.schedule, item.index)
	}
	item.turn++
	turn := item.turn
	item.stop = cancel
	r.mu.Unlock()

	value, err := r.renew(item, time.Now())
	var receipt Receipt
	if err == nil && value != nil {
		receipt, err = r.put(ctx, item.key, value)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if item.turn != turn {
		return receipt, err
	}
	again := item.again || !bytes.Equal(value, item.value)
	item.stop, item.again = nil, false
	if again {
		r.dueLocked(item, time.Now())
		return receipt, err
	}
	switch {
	case err != nil:
		item.receipt = receipt
		item.fails++
		r.log.Debug("record not put", "key", item.key, "err", err)
	case value != nil:
		item.receipt = receipt
		item.published, item.fails = time.Now(), 0
		item.step++
	}
	r.dueLocked(item, time.Now().Add(item.rest(r.interval(item), r.cfg.retry)))
	return receipt, err
}

// interval is how often a record is put when nothing happens.
func (r *Router) interval(item *kept) time.Duration {
	if item.target.kind == nodeKind {
		return r.cfg.NodeValidity / 2
	}
	return r.cfg.RefreshInterval
}

// renew returns the value to put: what is kept, signed anew where this node holds
// the key and the time has come. It drops what is expired.
func (r *Router) renew(item *kept, now time.Time) ([]byte, error) {
	r.mu.Lock()
	value, o, signer, made := item.value, item.opened, item.signer, item.made
	r.mu.Unlock()
	switch item.target.kind {
	case nodeKind:
		if value == nil || now.Sub(made) > r.cfg.NodeValidity/4 || !r.describes(o) {
			return r.signNode()
		}
		return value, nil
	case serviceKind:
		rec, ok := o.decoded.(record.ServiceRecord)
		if !ok {
			return nil, nil
		}
		left := o.expires.Sub(r.cfg.Clock())
		if !signer.IsZero() && left < record.ServiceValidity/2 {
			return r.signService(signer, rec)
		}
	default: // signed by others: put as it is
	}
	err := r.validator.inTime(o)
	if errors.Is(err, record.ErrExpired) || errors.Is(err, name.ErrExpired) {
		r.log.Warn("kept record expired", "key", item.key)
		r.drop(item.key)
	}
	return value, err
}

// settle compares a kept record with what the DHT holds and acts on a newer one:
// it was written apart from ours, or before this node lost its memory.
func (r *Router) settle(ctx context.Context, item *kept) {
	theirs, ok, _ := r.newest(ctx, item.key, r.cfg.LookupTimeout)
	if !ok {
		return
	}
	r.mu.Lock()
	ours, o, signer := item.value, item.opened, item.signer
	r.mu.Unlock()
	// known, and so newest, prefers what is kept; the cache has what was found.
	if e, ok := r.cache.get(item.key); ok {
		theirs = e
	}
	if ours == nil {
		r.replace(item, theirs) // held for its owner, who remembers nothing of it
		return
	}
	if compare(theirs.opened, theirs.value, o, ours) <= 0 {
		return
	}
	switch theirsRecord := theirs.opened.decoded.(type) {
	case record.NodeRecord:
		// Our own key signed it: an earlier life of this node, whose memory is lost.
		r.log.Info("own record in the network is newer than remembered", "sequence", theirsRecord.Sequence)
		if _, err := r.signNode(); err != nil {
			r.log.Error("sign node record", "err", err)
		}
		r.again(item)
	case record.ServiceRecord:
		r.settleService(item, signer, o, theirs)
	case network.File:
		r.adopt(theirsRecord)
	default:
		r.replace(item, theirs)
	}
}

// replace takes over a newer value for a kept record.
func (r *Router) replace(item *kept, e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item.value == nil || compare(e.opened, e.value, item.opened, item.value) > 0 {
		item.value, item.opened, item.step = e.value, e.opened, len(followUps)+1
	}
}

// again has a record put at once, as its value changed.
func (r *Router) again(item *kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	item.step = 0
	r.dueLocked(item, time.Now())
}

// agenda is a heap of kept records by when they are due.
type agenda []*kept

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due.Before(a[j].due) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push implements heap.Interface.
func (a *agenda) Push(x any) {
	item := x.(*kept)
	item.index = len(*a)
	*a = append(*a, item)
}

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	old := *a
	item := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	item.index = -1
	return item
}
