package routing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"scn.alt/scn/routing/record"
)

// maxFlights bounds the lookups running at once, so that a flood of questions for
// names that do not exist stays a bounded load.
const maxFlights = 128

// flight is one lookup in the DHT, shared by all who want its key. Its values are
// in the cache; the flight tells when there is a better one and when it ended. It
// goes on when nobody waits any more: the first valid value is good enough for the
// user, the newest one for the next.
type flight struct {
	started time.Time
	others  bool        // made for another node
	asking  atomic.Bool // peers in touch are being asked once more

	mu        sync.Mutex // guards below
	listeners map[chan<- struct{}]bool
	news      int // values better than all before
	done      bool
	err       error // why there was no value; set with done
}

// add tells of a better value.
func (f *flight) add() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news++
	f.tellLocked()
}

// finish tells of the end.
func (f *flight) finish(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.err = true, err
	f.tellLocked()
}

func (f *flight) tellLocked() {
	for c := range f.listeners {
		select {
		case c <- struct{}{}:
		default: // told already
		}
	}
}

// listen has c, which must have room for one, told of all news, past ones included.
func (f *flight) listen(c chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners[c] = true
	if f.news > 0 || f.done {
		f.tellLocked()
	}
}

func (f *flight) ignore(c chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, c)
}

// state returns the number of values so far, and whether the flight ended, with
// what.
func (f *flight) state() (news int, done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.news, f.done, f.err
}

// wait returns when there are more than seen values, or the flight or ctx ended.
func (f *flight) wait(ctx context.Context, seen int) (news int, done bool, err error) {
	c := make(chan struct{}, 1)
	f.listen(c)
	defer f.ignore(c)
	for {
		if news, done, err = f.state(); news > seen || done {
			return news, done, err
		}
		select {
		case <-c:
		case <-ctx.Done():
			return news, false, ctx.Err()
		}
	}
}

// maxFlightsOfKey bounds the lookups of one key running at once.
const maxFlightsOfKey = 4

// fly joins a lookup of key that began at the time given or later, or starts one.
// With the zero time any that is running will do.
func (r *Router) fly(key string, since time.Time) (*flight, error) {
	return r.flyFor(key, since, false)
}

// flyFor is fly. With others set, a lookup that is started does not use the
// delegate.
func (r *Router) flyFor(key string, since time.Time, others bool) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := r.flights[key]
	if n := len(running); n > 0 && (n == maxFlightsOfKey || !running[n-1].started.Before(since)) {
		f := running[n-1]
		if f.started.Before(since) && !r.closed && f.asking.CompareAndSwap(false, true) {
			// Those wait for nodes that do not answer; who is in touch may.
			r.tasks.Go(func() {
				defer f.asking.Store(false)
				r.ask(r.life, key, f, r.nearby(key))
			})
		}
		return f, nil
	}
	if r.closed {
		return nil, ErrClosed
	}
	if r.flying == maxFlights {
		r.counters.lookupsRefused.Add(1)
		return nil, ErrBusy
	}
	f := &flight{started: time.Now(), others: others, listeners: map[chan<- struct{}]bool{}}
	r.flights[key] = append(running, f)
	r.flying++
	r.counters.lookups.Add(1)
	// It ends by its own deadline, or by Close.
	r.tasks.Go(func() {
		err := r.search(r.life, key, f)
		r.mu.Lock()
		r.flying--
		if left := slices.DeleteFunc(r.flights[key], func(g *flight) bool { return g == f }); len(left) > 0 {
			r.flights[key] = left
		} else {
			delete(r.flights, key)
		}
		r.mu.Unlock()
		f.finish(err)
	})
	return f, nil
}

// tally counts the answers to one lookup. The sender finds it in the context.
type tally struct{ answers atomic.Int64 }

type tallyKey struct{}

// search runs one lookup to its end. It returns nil when a valid value was found.
func (r *Router) search(ctx context.Context, key string, f *flight) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	var answers tally
	counted := context.WithValue(ctx, tallyKey{}, &answers)
	var asked sync.WaitGroup
	if r.dht.RoutingTable().Size() < replicas {
		asked.Go(func() { r.ask(counted, key, f, r.nearby(key)) })
	}
	delegated, dhtAnswered := context.WithCancel(ctx)
	defer dhtAnswered()
	if r.cfg.Delegate != nil && !f.others {
		asked.Go(func() { r.askDelegate(delegated, key, f, &answers) })
	}
	r.awaitPeers(ctx, &answers)
	values, err := r.dht.SearchValue(counted, key)
	if err == nil {
		for value := range values {
			if r.learn(key, value) {
				f.add()
			}
		}
	}
	if answers.answers.Load() > 0 {
		dhtAnswered()
	}
	asked.Wait()
	news, _, _ := f.state()
	if err != nil && news == 0 {
		return err
	}
	r.cache.touch(key)
	switch {
	case news > 0:
		r.counters.lookupsFound.Add(1)
		return nil
	case r.life.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return ErrTimeout
	case answers.answers.Load() == 0 && r.dht.RoutingTable().Size() == 0:
		return ErrNoPeers
	case answers.answers.Load() == 0:
		return ErrTimeout
	}
	return ErrNotFound
}

// ask asks some peers for a record, besides the lookup that is under way: that one
// goes from node to node and may be held up by those that do not answer.
func (r *Router) ask(ctx context.Context, key string, f *flight, peers []peer.ID) {
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			rec, _, err := r.messenger.GetValue(ctx, p, key)
			if err == nil && rec != nil && string(rec.GetKey()) == key && r.learn(key, rec.GetValue()) {
				f.add()
			}
		})
	}
	wg.Wait()
}

// joinPatience is how long a lookup waits for the first peer after the start, or
// after all were lost, if nobody else answers.
const joinPatience = 2 * time.Second

// awaitPeers waits for the first peer while one may still be found. The only node
// of a network does not wait, nor does one that lets others in while all who came
// are clients, as behind NATs.
func (r *Router) awaitPeers(ctx context.Context, t *tally) {
	if r.dht.RoutingTable().Size() > 0 || len(r.acquaintances()) == 0 ||
		r.isListed(r.Network()) && len(r.connected()) > 0 {
		return
	}
	for end := time.Now().Add(joinPatience); time.Now().Before(end); {
		if !sleep(ctx, 20*time.Millisecond) || r.dht.RoutingTable().Size() > 0 || t.answers.Load() > 0 {
			return
		}
	}
}

// learn takes a value into the cache. It reports whether it is valid.
func (r *Router) learn(key string, value []byte) bool {
	o, err := r.validator.open(key, value)
	if err != nil {
		return false
	}
	if n, ok := o.decoded.(record.NodeRecord); r.cache.put(key, value, o) && ok {
		r.introduce(n)
	}
	return true
}

// heard takes notice of a record a peer put here, when somebody is looking for it
// or found it before. In a small network every node is told of every move this way.
func (r *Router) heard(key string, value []byte) {
	r.mu.Lock()
	running := slices.Clone(r.flights[key])
	r.mu.Unlock()
	if _, known := r.cache.get(key); !known && len(running) == 0 {
		return
	}
	if r.learn(key, value) {
		for _, f := range running {
			f.add()
		}
	}
}

// introduce tells libp2p where a DHT peer moved to, so that it is found again
// before it calls.
func (r *Router) introduce(n record.NodeRecord) {
	if n.Mobile || n.Node == r.self {
		return
	}
	p, err := peerOf(n.Node)
	if err != nil || r.dht.RoutingTable().Find(p) == "" {
		return
	}
	r.host.Peerstore().AddAddrs(p, dhtAddrs(r.reach.filter(n.Addresses(), MaxAddresses)), peerstore.TempAddrTTL)
}

// known returns the newest version of a record at hand, be it expired, and whether
// there is one.
func (r *Router) known(key string) (entry, bool) {
	e, ok := r.cache.get(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.kept[key]; k != nil && k.value != nil && (!ok || compare(k.opened, k.value, e.opened, e.value) >= 0) {
		return entry{value: k.value, opened: k.opened, checked: maxTime(e.checked, k.published)}, true
	}
	return e, ok
}

// current is known for records that are still in time.
func (r *Router) current(key string) (entry, bool) {
	e, ok := r.known(key)
	if !ok || r.validator.inTime(e.opened) != nil {
		return entry{}, false
	}
	return e, true
}

// first returns a record at hand, refreshing it behind when it is stale, or the
// first valid one the DHT has.
func (r *Router) first(ctx context.Context, key string) (entry, error) {
	if e, ok := r.current(key); ok {
		r.counters.cacheHits.Add(1)
		if e.stale() {
			_, _ = r.fly(key, time.Time{}) // busy: the next who asks tries again
		}
		return e, nil
	}
	r.counters.cacheMisses.Add(1)
	f, err := r.fly(key, time.Time{})
	if err != nil {
		return entry{}, err
	}
	for seen := 0; ; {
		news, done, err := f.wait(ctx, seen)
		if e, ok := r.current(key); ok {
			return e, nil
		}
		switch {
		case done && err == nil:
			return entry{}, ErrNotFound // it expired under our eyes
		case errors.Is(err, context.DeadlineExceeded):
			return entry{}, errors.Join(ErrTimeout, err)
		case err != nil:
			return entry{}, err
		}
		seen = news
	}
}

// newest asks the DHT whatever is at hand and waits for the lookup's end, at most
// for the time given. It returns the newest record then known, if any is in time.
func (r *Router) newest(ctx context.Context, key string, most time.Duration) (entry, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	f, err := r.fly(key, time.Now())
	if err == nil {
		for seen, done := 0, false; !done && err == nil; {
			seen, done, err = f.wait(ctx, seen)
		}
	}
	e, ok := r.current(key)
	return e, ok, err
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
