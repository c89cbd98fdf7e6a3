package market

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

func TestPolicies(t *testing.T) {
	cheap, dear := voucher.Price{PerGiB: 10}, voucher.Price{PerGiB: 10, PerHour: 30}
	offers := func() []Offer {
		return []Offer{
			{Node: identity.NodeID{1}, Price: dear, RTT: time.Millisecond, Weight: 100},
			{Node: identity.NodeID{2}, Price: cheap, RTT: time.Second, Weight: 100},
			{Node: identity.NodeID{3}, Price: cheap, Weight: 0},
		}
	}
	for _, c := range []struct {
		policy  Policy
		ranks   [3]uint64
		weights [3]uint16
	}{
		{Weighted, [3]uint64{}, [3]uint16{25, 100, 0}},
		{Cheapest, [3]uint64{40, 10, 10}, [3]uint16{100, 100, 0}},
		{Fastest, [3]uint64{uint64(time.Millisecond), uint64(time.Second), math.MaxUint64}, [3]uint16{100, 100, 0}},
	} {
		got := offers()
		c.policy.Order(got)
		for i, o := range got {
			if o.Rank != c.ranks[i] || o.Weight != c.weights[i] {
				t.Errorf("%s: offer %d has rank %d and weight %d, want %d and %d", c.policy, i, o.Rank, o.Weight, c.ranks[i], c.weights[i])
			}
		}
		if p, err := ParsePolicy(c.policy.String()); err != nil || p != c.policy {
			t.Errorf("%s: %v, %v", c.policy, p, err)
		}
	}
	if _, err := ParsePolicy("nearest"); !errors.Is(err, ErrPolicy) {
		t.Errorf("%v", err)
	}
}

// TestWeightedLeavesFreeAlone: where nobody asks anything, the owner's weights stay,
// and a free provider goes before all that ask.
func TestWeightedLeavesFreeAlone(t *testing.T) {
	free := []Offer{{Weight: 7}, {Weight: 65535}}
	Weighted.Order(free)
	if free[0].Weight != 7 || free[1].Weight != 65535 {
		t.Errorf("%+v", free)
	}
	mixed := []Offer{{Weight: 7}, {Weight: 65535, Price: voucher.Price{PerGiB: voucher.MaxAmount, PerHour: 1}}}
	Weighted.Order(mixed)
	if mixed[0].Weight != 7 || mixed[1].Weight != 0 {
		t.Errorf("%+v", mixed)
	}
}

// world is a ledger that counts, and a clock.
type world struct {
	asked atomic.Int32
	fail  atomic.Bool
	now   atomic.Int64
	asks  []voucher.Ask
}

func (w *world) source(context.Context, identity.ServiceID) ([]voucher.Ask, error) {
	w.asked.Add(1)
	if w.fail.Load() {
		return nil, errors.New("unreachable")
	}
	return w.asks, nil
}

func newCache(t *testing.T, w *world, cfg Config) *Cache {
	t.Helper()
	cfg.Clock = func() time.Time { return time.Unix(1000+w.now.Load(), 0) }
	c, err := New(w.source, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKnownNeverWaits: a service not asked about is not known, nothing is asked
// before Run, and one question answers many dials.
func TestKnownNeverWaits(t *testing.T) {
	service := identity.ServiceID{1}
	w := &world{asks: []voucher.Ask{{Service: service, Node: identity.NodeID{2}, Price: voucher.Price{PerGiB: 5}, Sequence: 1}}}
	c := newCache(t, w, Config{})
	for range 10 {
		if asks := c.Known(service); asks != nil {
			t.Fatalf("%+v", asks)
		}
	}
	if w.asked.Load() != 0 {
		t.Fatal("somebody was asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for range 1000 {
		if len(c.Known(service)) == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if len(c.Known(service)) != 1 || w.asked.Load() != 1 {
		t.Errorf("%d asks known after %d questions", len(c.Known(service)), w.asked.Load())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOldAnswersStandIn: what is not fresh any more is used while the ledger is away,
// for an hour.
func TestOldAnswersStandIn(t *testing.T) {
	service := identity.ServiceID{1}
	w := &world{asks: []voucher.Ask{{Service: service, Sequence: 1}}}
	c := newCache(t, w, Config{})
	if _, err := c.Fetch(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.fail.Store(true)
	w.now.Store(600)
	if len(c.Known(service)) != 1 {
		t.Error("an answer ten minutes old does not stand in")
	}
	if _, err := c.Fetch(t.Context(), service); err == nil {
		t.Error("the ledger answered")
	}
	w.now.Store(4000)
	if len(c.Known(service)) != 0 {
		t.Error("an answer an hour old stands in")
	}
}

func TestLearn(t *testing.T) {
	service, node := identity.ServiceID{1}, identity.NodeID{2}
	w := &world{asks: []voucher.Ask{{Service: service, Node: node, Sequence: 5}}}
	c := newCache(t, w, Config{})
	c.Learn(voucher.Ask{Service: service, Node: node, Sequence: 9}) // nothing to correct yet
	if len(c.Known(service)) != 0 {
		t.Error("an ask was believed without the ledger")
	}
	if _, err := c.Fetch(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{4, 5, 6} {
		c.Learn(voucher.Ask{Service: service, Node: node, Sequence: sequence})
	}
	if asks := c.Known(service); len(asks) != 1 || asks[0].Sequence != 6 {
		t.Errorf("%+v", asks)
	}
}

// TestCacheIsBounded asks about more services than are remembered.
func TestCacheIsBounded(t *testing.T) {
	w := &world{}
	c := newCache(t, w, Config{MaxServices: 10})
	for i := range byte(100) {
		c.Known(identity.ServiceID{i})
		if _, err := c.Fetch(t.Context(), identity.ServiceID{i}); err != nil {
			t.Fatal(err)
		}
		w.now.Add(30)
	}
	if len(c.services) > 10 {
		t.Errorf("%d services", len(c.services))
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Fresh: 1, MaxServices: -1, Timeout: -1}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("not every fault is reported: %v", err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{"weighted", "cheapest", "fastest", "", "Cheapest"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePolicy(s)
		if err == nil && p.String() != s || err != nil && !errors.Is(err, ErrPolicy) {
			t.Errorf("%q is read as %s, %v", s, p, err)
		}
	})
}

// TestScores: the better score comes first, small differences do not count, the
// suspended come last under every policy, and money may make up for a worse score.
func TestScores(t *testing.T) {
	price := voucher.Price{PerGiB: voucher.Credit}
	offers := func() []Offer {
		return []Offer{
			{Node: identity.NodeID{1}, Price: price, Scored: true, Score: 990_000},
			{Node: identity.NodeID{2}, Price: voucher.Price{PerGiB: voucher.Credit / 4}, Scored: true, Score: 500_000},
			{Node: identity.NodeID{3}, Price: price, Scored: true, Score: 985_000},
			{Node: identity.NodeID{4}},
			{Node: identity.NodeID{5}, Price: voucher.Price{PerGiB: 1}, RTT: 1, Scored: true, Score: 1_000_000, Suspended: true},
		}
	}
	for _, c := range []struct {
		policy Policy
		order  [5]byte // of nodes; those of one rank in the order above
	}{
		{Score, [5]byte{1, 3, 4, 2, 5}},
		{ScorePerPrice, [5]byte{4, 2, 1, 3, 5}},
	} {
		got := offers()
		c.policy.Order(got)
		slices.SortStableFunc(got, func(a, b Offer) int { return cmp.Compare(a.Rank, b.Rank) })
		for i, o := range got {
			if o.Node[0] != c.order[i] {
				t.Errorf("%s: place %d has node %d, want %d", c.policy, i, o.Node[0], c.order[i])
			}
		}
		if p, err := ParsePolicy(c.policy.String()); err != nil || p != c.policy {
			t.Errorf("%s: %v, %v", c.policy, p, err)
		}
	}
	alike := offers()
	Score.Order(alike)
	if alike[0].Rank != alike[2].Rank {
		t.Errorf("ranks %d and %d of scores that are alike", alike[0].Rank, alike[2].Rank)
	}
	for _, p := range []Policy{Weighted, Cheapest, Fastest} {
		got := offers()
		p.Order(got)
		for _, o := range got[:4] {
			if o.Rank >= got[4].Rank && p != Fastest {
				t.Errorf("%s: a suspended provider has rank %d, another %d", p, got[4].Rank, o.Rank)
			}
		}
	}
	if perScore(voucher.MaxAmount, 0) > math.MaxUint64/2 {
		t.Error("ranks overflow")
	}
}
