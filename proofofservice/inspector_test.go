package proofofservice

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// book is a ledger in memory that judges by the real rules.
type book struct {
	keys   Keys
	roster *evidence.Roster
	began  time.Time // of epoch 1

	mu       sync.Mutex // guards below
	down     bool
	commits  map[uint64]evidence.Commit
	reports  map[uint64]*evidence.Report
	answered map[evidence.Challenge]bool
	faults   []error
}

func newBook(t *testing.T, keys Keys, rules evidence.Rules, providers ...evidence.Provider) *book {
	t.Helper()
	roster, err := evidence.NewRoster(rules.WithDefaults(), 1, providers)
	if err != nil {
		t.Fatal(err)
	}
	return &book{
		keys: keys, roster: roster, began: time.Now(), commits: make(map[uint64]evidence.Commit),
		reports: make(map[uint64]*evidence.Report), answered: make(map[evidence.Challenge]bool),
	}
}

func (b *book) length() time.Duration {
	return time.Duration(b.roster.Rules().Epoch) * time.Millisecond
}

func (b *book) at(epoch uint64) Epoch {
	return Epoch{
		evidence.Frame{Network: identity.NetworkID{1}, Epoch: epoch, Seed: evidence.Seed{byte(epoch)}, Roster: b.roster},
		b.began.Add(time.Duration(epoch-1) * b.length()),
	}
}

func (b *book) now() uint64 { return 1 + uint64(time.Since(b.began)/b.length()) }

var errDown = errors.New("the ledger is down")

func (b *book) Epochs(context.Context) (list []Epoch, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, errDown
	}
	for e := max(b.now(), 4) - 3; e <= b.now()+1; e++ {
		list = append(list, b.at(e))
	}
	return list, nil
}

func (b *book) Post(_ context.Context, m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errDown
	}
	switch m := m.(type) {
	case Commitment:
		if old, ok := b.commits[m.Epoch]; ok && old != m.Commit {
			b.faults = append(b.faults, errors.New("two commits to one epoch"))
		}
		b.commits[m.Epoch] = m.Commit
	case Publication:
		e := b.at(m.Reveal.Epoch)
		report, err := e.Verify(b.keys.Account, evidence.VRFKeyOf(b.keys.VRF), b.commits[m.Reveal.Epoch], &m.Reveal)
		if err != nil {
			b.faults = append(b.faults, err)
			return err
		}
		b.reports[m.Reveal.Epoch] = report
	}
	return nil
}

func (b *book) Challenges(context.Context) (list []evidence.Challenge, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for epoch, r := range b.reports {
		for i := range r.Rows {
			c := evidence.Challenge{Epoch: epoch, Inspector: b.keys.Account, Row: uint16(i)}
			if rules := b.roster.Rules(); !b.answered[c] && b.now() <= epoch+2*uint64(rules.Keep) {
				list = append(list, c)
			}
		}
	}
	return list, nil
}

func (b *book) Answer(_ context.Context, a evidence.Answer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.at(a.Epoch)
	if err := a.Verify(&e.Frame, b.reports[a.Epoch], ms(e.Began)); err != nil {
		b.faults = append(b.faults, err)
		return err
	}
	b.answered[challengeOf(a)] = true
	return nil
}

// check reports what was wrong, and how many epochs were reported and rows answered.
func (b *book) check(t *testing.T) (reports, answers int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.faults {
		t.Error(err)
	}
	return len(b.reports), len(b.answered)
}

func (b *book) setDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func testKeys() Keys {
	return Keys{Account: identity.AccountID{3}, VRF: identity.NewKeyFromSeed([32]byte{4}), Rows: [32]byte{5}}
}

// patiently waits until something holds, for as long as a loaded machine may need.
func patiently(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 40 s", what)
		}
	}
}

// An inspector with a real shopper, store and loopback provider, through epochs of a
// second, a ledger that is down for a while, and a restart.
func TestInspectorRuns(t *testing.T) {
	t.Parallel()
	good, alive := newProvider(t, evidence.Fixed), newProvider(t, evidence.Fixed)
	b := newBook(t, testKeys(), evidence.Rules{Epoch: 1000, Window: 500, Grace: 500}, good.Provider)
	dir := t.TempDir()
	run := func(until func(i *Inspector) bool) Metrics {
		store, err := OpenStore(dir, StoreConfig{})
		if err != nil {
			t.Fatal(err)
		}
		i, err := New(testKeys(), b, shopper(t, good, anchorsAt{alive.listener.Addr()}), store, Config{Poll: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := i.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		patiently(t, "the inspector", func() bool { return until(i) })
		i.Moved()
		cancel()
		wg.Wait()
		if list := i.Watch().Summaries(); len(list) != 1 || list[0].Checks == 0 || list[0].Node != good.Node {
			t.Errorf("%+v", list)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		return i.Metrics()
	}
	first := run(func(*Inspector) bool {
		reports, answers := b.check(t)
		return reports >= 2 && answers >= 5
	})
	b.setDown(true)
	first2 := run(func(i *Inspector) bool {
		if i.Metrics().Errors > 2 {
			b.setDown(false)
		}
		return i.Metrics().Commits > 0 && i.Metrics().Reveals > 0
	})
	if first.Passed == 0 || first.Commits == 0 || first.Reveals == 0 || first.Answers == 0 || first2.Errors < 3 {
		t.Errorf("%+v, then %+v", first, first2)
	}
	b.check(t)
	// What it measured is on the disk.
	store, err := OpenStore(dir, StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	points := uint64(0)
	for p, err := range store.Series(good.Service, good.Node, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if p.Kind >= evidence.Kinds {
			t.Errorf("%+v", p)
		}
		points++
	}
	if points == 0 || points > first.Visits+first2.Visits {
		t.Errorf("%d points of %d visits", points, first.Visits+first2.Visits)
	}
}

// slow makes visits that take until they are cut.
type slow struct{}

func (slow) Visit(ctx context.Context, v Visit) Sighting {
	<-ctx.Done()
	return Sighting{Verdict: evidence.Absent, Start: time.Now(), End: time.Now(), Control: Worked, ControlAt: time.Now()}
}

// Run leaves nothing behind, whatever is under way.
func TestInspectorStops(t *testing.T) {
	t.Parallel()
	b := newBook(t, testKeys(), evidence.Rules{Epoch: 1000, Window: 900}, evidence.Provider{Node: identity.NodeID{1}})
	store, err := OpenStore(t.TempDir(), StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	i, err := New(testKeys(), b, slow{}, store, Config{Poll: 20 * time.Millisecond, Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if err := i.Run(ctx); err != nil {
		t.Error(err)
	}
	b.check(t)
}

func TestConfigs(t *testing.T) {
	for _, c := range []Config{{Parallel: -1}, {Parallel: 257}, {Poll: time.Millisecond}, {Poll: time.Hour}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (StoreConfig{Retention: time.Second}).Validate(); err == nil {
		t.Error("a retention of a second is valid")
	}
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir, StoreConfig{Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for epoch := range uint64(5) {
		if err := s.SaveEpoch(epoch, []byte{byte(epoch)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ForgetEpochs(3); err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_800_000_000_000)
	for i := range 30 {
		for _, node := range []byte{1, 2} {
			p := Point{Node: identity.NodeID{node}, At: now.Add(-time.Duration(i) * 10 * time.Minute), Outcome: evidence.Outcome{Verdict: evidence.Pass, Latency: uint32(i + 1)}}
			if err := s.Add(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Trim(now); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Add(Point{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s, err = OpenStore(dir, StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for epoch := range uint64(5) {
		got, err := s.LoadEpoch(epoch)
		if want := []byte{byte(epoch)}; err != nil || (epoch < 3) != (got == nil) || epoch >= 3 && !bytes.Equal(got, want) {
			t.Errorf("epoch %d: %x, %v", epoch, got, err)
		}
	}
	count := func(since time.Time) (n int, last uint32) {
		for p, err := range s.Series(identity.ServiceID{}, identity.NodeID{2}, since) {
			if err != nil {
				t.Fatal(err)
			}
			if p.Node != (identity.NodeID{2}) {
				t.Errorf("%+v", p)
			}
			last = p.Outcome.Latency
			n++
		}
		return n, last
	}
	if n, last := count(time.Time{}); n != 7 || last != 1 {
		t.Errorf("%d points of the last hour, the last %d", n, last)
	}
	if n, _ := count(now.Add(-25 * time.Minute)); n != 3 {
		t.Errorf("%d points of the last 25 minutes", n)
	}
	all := 0
	for _, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		if all++; all == 10 {
			break
		}
	}
	if all != 10 {
		t.Errorf("%d points in all", all)
	}
	if err := s.db.Set(formatKey, []byte{0, 0, 0, 0, 0, 0, 0, 9}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir, StoreConfig{}); !errors.Is(err, ErrFormat) {
		t.Errorf("a newer store: %v", err)
	}
}

func FuzzParsePoint(f *testing.F) {
	p := Point{Service: identity.ServiceID{1}, Node: identity.NodeID{2}, At: time.UnixMilli(5), Kind: evidence.Price}
	key := append(seriesKey(p.Service, p.Node), 0, 0, 0, 0, 0, 0, 0, 5)
	f.Add(key, p.Outcome.Append([]byte{byte(p.Kind)}))
	f.Add(key[:10], []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		p, err := parsePoint(key, value)
		if err == nil && (p.Kind >= evidence.Kinds || len(key) != pointKey) {
			t.Errorf("%+v", p)
		}
	})
}

func TestWatch(t *testing.T) {
	w := NewWatch()
	add := func(node byte, o evidence.Outcome, kind evidence.Kind) bool {
		return w.Add(Point{Node: identity.NodeID{node}, At: time.Unix(int64(node), 0), Kind: kind, Outcome: o})
	}
	pass := func(latency uint32) evidence.Outcome {
		return evidence.Outcome{Verdict: evidence.Pass, Latency: latency}
	}
	for i := range 300 {
		if add(1, pass(20_000+uint32(i%7)*100), evidence.Reach) {
			t.Fatalf("an anomaly after %d ordinary measurements", i)
		}
	}
	if !add(1, pass(90_000), evidence.Reach) {
		t.Error("no anomaly in 90 ms after 20")
	}
	add(1, evidence.Outcome{Verdict: evidence.Absent}, evidence.Reach)
	add(1, evidence.Outcome{Verdict: evidence.Void, Reason: evidence.Uplink}, evidence.Reach)
	for range 20 {
		add(2, evidence.Outcome{Verdict: evidence.Pass, Latency: 1, Rate: 1000}, evidence.Throughput)
	}
	if !add(2, evidence.Outcome{Verdict: evidence.Pass, Latency: 1, Rate: 100}, evidence.Throughput) {
		t.Error("no anomaly in a tenth of the rate")
	}
	list := w.Summaries()
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	a, b := list[0], list[1]
	if a.Checks != 302 || a.Recent != window || a.Failed != 1 || a.Anomalies != 1 || a.Verdict != evidence.Absent ||
		a.Latency50 < 20_000 || a.Latency90 > 21_000 || len(a.Latencies) != window {
		t.Errorf("%+v", a)
	}
	if b.Rate != 1000 || b.Anomalies != 1 {
		t.Errorf("%+v", b)
	}
	for i := range maxWatched + 10 {
		n := identity.NodeID{9, byte(i), byte(i >> 8), byte(i >> 16)}
		w.Add(Point{Node: n, At: time.Unix(100+int64(i), 0), Outcome: pass(1)})
	}
	if len(w.Summaries()) > maxWatched {
		t.Error("a watch grows without bound")
	}
}
