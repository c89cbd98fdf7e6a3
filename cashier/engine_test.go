package cashier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// One of a hundred has the name; the others learn who.
func TestHundredClaimants(t *testing.T) {
	const claimants = 100
	l := open(t)
	c := serve(t, l, ServerConfig{SubmitBurst: 1000, RequestBurst: 1000})
	type outcome struct {
		account identity.AccountID
		service identity.ServiceID
		err     error
	}
	outcomes := make([]outcome, claimants)
	var wg sync.WaitGroup
	for i := range claimants {
		account, service := key(uint16(100+i)), key(uint16(300+i))
		var s Submitter = l
		if i%2 == 0 {
			s = c
		}
		wg.Go(func() {
			_, err := wallet(account, s).Register(t.Context(), "files", service)
			outcomes[i] = outcome{account.Account(), service.Service(), err}
		})
	}
	wg.Wait()
	i := slices.IndexFunc(outcomes, func(o outcome) bool { return o.err == nil })
	if i < 0 {
		t.Fatalf("nobody has the name: %v", outcomes[0].err)
	}
	winner := outcomes[i]
	for j, o := range outcomes {
		r, _ := errors.AsType[*Rejection](o.err)
		if j != i && (!errors.Is(o.err, ErrTaken) || r.Owner != winner.account || r.Service != winner.service) {
			t.Errorf("claimant %d was told %v", j, o.err)
		}
	}
	a := must[Answer](t)(c.Lookup(t.Context(), "files"))
	if a.Record.Owner != winner.account || a.Record.Service != winner.service {
		t.Errorf("the record names %+v", a.Record)
	}
	if m := l.Metrics(); m.Accepted != 1 || m.ByCode[NameTaken] != claimants-1 {
		t.Errorf("metrics %+v", m)
	}
}

// Submitted again, by whatever way and even after a restart, a transaction counts
// once and gets the same receipt.
func TestAtMostOnce(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, func(c *Config) { c.fs = fs })
	signed := registration(t, alice, files, 5, "files")
	first := must[Receipt](t)(l.Submit(t.Context(), signed))
	if first.Again {
		t.Error("the first submission is said to be a repetition")
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			again, err := l.Submit(t.Context(), signed)
			again.Again = false
			if diff := cmp.Diff(first, again); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
	wg.Wait()
	must[Receipt](t)(l.Submit(t.Context(), sealed(t, alice, 6, Release{"files"})))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, func(c *Config) { c.fs = fs })
	again, err := l.Submit(t.Context(), signed)
	if err != nil || !again.Again || again.Height != first.Height || again.ID != first.ID {
		t.Errorf("after a restart: %+v, %v", again, err)
	}
	if s := must[Status](t)(l.Status(t.Context())); s.Height != 2 {
		t.Errorf("height %d, want 2", s.Height)
	}
}

// Twenty of the same transaction at once, before it was ever accepted.
func TestSameTransactionAtOnce(t *testing.T) {
	l := open(t)
	signed := registration(t, alice, files, 5, "files")
	var wg sync.WaitGroup
	var fresh sync.Map
	for i := range 20 {
		wg.Go(func() {
			r, err := l.Submit(t.Context(), signed)
			if err != nil || r.Height != 1 || r.Index != 0 {
				t.Errorf("%+v, %v", r, err)
			}
			if !r.Again {
				fresh.Store(i, true)
			}
		})
	}
	wg.Wait()
	n := 0
	fresh.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d submissions were the first", n)
	}
}

// What waits while a block is written goes into the next one together; a name
// changed twice takes two blocks, in the order of submission.
func TestBlocksFollowTheQueue(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var armed atomic.Bool
	l := open(t, func(c *Config) {
		c.Clock = func() time.Time {
			if armed.Load() {
				once.Do(func() { close(entered); <-leave })
			}
			return epoch
		}
	})
	armed.Store(true)
	var wg sync.WaitGroup
	submit := func(signed []byte) {
		queued := len(l.queue)
		wg.Go(func() {
			if _, err := l.Submit(t.Context(), signed); err != nil {
				t.Error(err)
			}
		})
		for len(l.queue) == queued {
			time.Sleep(time.Millisecond)
		}
	}
	wg.Go(func() { must[Receipt](t)(l.Submit(t.Context(), registration(t, alice, files, 1, "first"))) })
	<-entered // the engine holds the first block
	submit(registration(t, alice, files, 2, "files"))
	submit(registration(t, bob, mail, 1, "other"))
	submit(registration(t, alice, files, 3, "mails"))
	submit(sealed(t, alice, 4, Release{"files"}))
	submit(sealed(t, alice, 5, Release{"mails"}))
	close(leave)
	wg.Wait()
	var got []int
	for _, raw := range must[[][]byte](t)(l.Blocks(t.Context(), 1, 100, 1<<20)) {
		got = append(got, len(must[Block](t)(DecodeBlock(raw)).Transactions))
	}
	if want := []int{1, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("blocks of %v transactions, want %v", got, want)
	}
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var armed atomic.Bool
	l := open(t, func(c *Config) {
		c.MaxQueue = 2
		c.Clock = func() time.Time {
			if armed.Load() {
				once.Do(func() { close(entered); <-leave })
			}
			return epoch
		}
	})
	armed.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range uint64(3) {
		wg.Go(func() {
			_, err := l.Submit(ctx, registration(t, key(uint16(50+i)), files, 1, name.Name(fmt.Sprintf("name-%d", i))))
			if i > 0 && !errors.Is(err, context.Canceled) {
				t.Errorf("%d: %v", i, err)
			}
		})
		if i == 0 {
			<-entered
		}
		for len(l.queue) != int(i) {
			time.Sleep(time.Millisecond)
		}
	}
	if _, err := l.Submit(t.Context(), registration(t, bob, files, 1, "files")); !errors.Is(err, ErrOverCapacity) {
		t.Errorf("full queue: %v", err)
	}
	cancel() // who waits goes away; the transactions are judged all the same
	time.Sleep(10 * time.Millisecond)
	close(leave)
	wg.Wait()
	for {
		if s := must[Status](t)(l.Status(t.Context())); s.Height == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

// Close answers everybody, and what was acknowledged before is there afterwards.
func TestCloseUnderLoad(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, func(c *Config) { c.fs = fs })
	var mu sync.Mutex
	acknowledged := map[name.Name]identity.AccountID{}
	var wg sync.WaitGroup
	for i := range 8 {
		account := key(uint16(100 + i))
		wg.Go(func() {
			w := wallet(account, l)
			for j := 0; ; j++ {
				n := name.Name(fmt.Sprintf("n-%d-%d", i, j))
				_, err := w.Register(context.Background(), n, files)
				switch {
				case errors.Is(err, ErrClosed):
					return
				case errors.Is(err, ErrTooManyNames):
					continue
				case err != nil && !errors.Is(err, ErrClosed):
					t.Errorf("%s: %v", n, err)
					return
				}
				mu.Lock()
				acknowledged[n] = account.Account()
				mu.Unlock()
			}
		})
	}
	for l.Metrics().Accepted < 50 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if _, err := l.Lookup(t.Context(), "files"); !errors.Is(err, ErrClosed) {
		t.Errorf("lookup after Close: %v", err)
	}
	l = open(t, func(c *Config) { c.fs = fs })
	for n, owner := range acknowledged {
		if a := must[Answer](t)(l.Lookup(t.Context(), n)); a.Record.Owner != owner {
			t.Errorf("%s was acknowledged to %s and belongs to %s", n, owner, a.Record.Owner)
		}
	}
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestLimitOfNames(t *testing.T) {
	l := open(t, func(c *Config) { c.Parameters.MaxNames = 2 })
	ctx := t.Context()
	w, other := wallet(alice, l), wallet(bob, l)
	must[Receipt](t)(w.Register(ctx, "aaa", files))
	must[Receipt](t)(w.Register(ctx, "bbb", files))
	if _, err := w.Register(ctx, "ccc", files); !errors.Is(err, ErrTooManyNames) {
		t.Errorf("third name: %v", err)
	}
	must[Receipt](t)(other.Register(ctx, "ccc", files))
	must[Receipt](t)(other.Offer(ctx, "ccc", alice.Account()))
	if _, err := w.Accept(ctx, "ccc", files); !errors.Is(err, ErrTooManyNames) {
		t.Errorf("third name by transfer: %v", err)
	}
	if _, err := w.SetParameters(ctx, Parameters{MaxNames: 3}); err == nil {
		t.Error("anybody sets the parameters")
	}
	must[Receipt](t)(wallet(founder, l).SetParameters(ctx, Parameters{MaxNames: 3}))
	must[Receipt](t)(w.Accept(ctx, "ccc", files))
	names := must[[]OwnedName](t)(l.Names(ctx, alice.Account(), "", 10))
	if len(names) != 3 || names[0].Name != "aaa" || names[2].Name != "ccc" {
		t.Errorf("names %+v", names)
	}
	if names := must[[]OwnedName](t)(l.Names(ctx, alice.Account(), "aaa", 1)); len(names) != 1 || names[0].Name != "bbb" {
		t.Errorf("after aaa: %+v", names)
	}
	if names := must[[]OwnedName](t)(l.Names(ctx, bob.Account(), "", 10)); len(names) != 0 {
		t.Errorf("the former owner's names %+v", names)
	}
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

func TestRealZone(t *testing.T) {
	broken := errors.New("no upstream")
	asked := 0
	l := open(t, func(c *Config) {
		c.RealZone = func(_ context.Context, n name.Name, account identity.AccountID) (bool, bool, error) {
			asked++
			switch n {
			case "bank":
				return true, account == alice.Account(), nil
			case "down":
				return false, false, broken
			}
			return false, false, nil
		}
	})
	ctx := t.Context()
	a, b := wallet(alice, l), wallet(bob, l)
	if _, err := b.Register(ctx, "bank", mail); !errors.Is(err, ErrExistsElsewhere) {
		t.Errorf("without proof: %v", err)
	}
	if _, err := b.Register(ctx, "down", mail); !errors.Is(err, ErrUnavailable) {
		t.Errorf("zone not reached: %v", err)
	}
	must[Receipt](t)(a.Register(ctx, "bank", files))
	must[Receipt](t)(b.Register(ctx, "free", mail))
	before := asked
	if _, err := b.Register(ctx, "bank", mail); !errors.Is(err, ErrTaken) {
		t.Errorf("taken: %v", err)
	}
	must[Receipt](t)(a.Update(ctx, "bank", mail))
	if asked != before {
		t.Error("the zone is asked about names that are not to be registered")
	}
	if RealZoneProof(alice.Account()) != "scn-account="+alice.Account().String() {
		t.Error(RealZoneProof(alice.Account()))
	}
}

// A clock that goes back does not take the ledger with it.
func TestClockGoesBack(t *testing.T) {
	now := epoch
	var mu sync.Mutex
	l := open(t, func(c *Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	ctx := t.Context()
	must[Receipt](t)(l.Submit(ctx, registration(t, alice, files, 1, "aaa")))
	mu.Lock()
	now = now.Add(-time.Hour)
	mu.Unlock()
	late := Transaction{Network: network, Sequence: 2, ValidUntil: epoch.Unix() - 1, Operation: Release{"aaa"}}
	_, err := l.Submit(ctx, must[[]byte](t)(late.Sign(alice)))
	if r, _ := errors.AsType[*Rejection](err); !errors.Is(err, ErrExpired) || r.Time != epoch.Unix() {
		t.Errorf("by the ledger's time it has expired: %v", err)
	}
	if a := must[Answer](t)(l.Lookup(ctx, "aaa")); a.Time != epoch.Unix() || a.Record.NotAfter < epoch.Add(6*24*time.Hour).Unix() {
		t.Errorf("signed by the wrong clock: %+v", a)
	}
	late.ValidUntil++
	must[Receipt](t)(l.Submit(ctx, must[[]byte](t)(late.Sign(alice))))
	if err := l.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// The same blocks give the same app hash, here and in a replay elsewhere.
func TestReplayElsewhere(t *testing.T) {
	l := open(t)
	c := serve(t, l, ServerConfig{})
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		w := wallet(people[random.IntN(len(people))], l)
		n, service := labels[random.IntN(len(labels))], services[random.IntN(len(services))]
		switch random.IntN(5) {
		case 0:
			_, _ = w.Register(ctx, n, service)
		case 1:
			_, _ = w.Update(ctx, n, service)
		case 2:
			_, _ = w.Offer(ctx, n, people[random.IntN(len(people))].Account())
		case 3:
			_, _ = w.Accept(ctx, n, service)
		case 4:
			_, _ = w.Release(ctx, n)
		}
	}
	status := must[Status](t)(c.Status(ctx))
	if status.Height < 5 {
		t.Fatalf("only %d of 60 were accepted", status.Height)
	}
	r := must[*Replay](t)(NewReplay(network, must[Genesis](t)(c.Genesis(ctx))))
	for r.Height() < status.Height {
		blocks := must[[]Block](t)(c.Blocks(ctx, r.Height()+1))
		for _, b := range blocks {
			if _, err := r.Apply(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r.AppHash() != status.AppHash || r.Block() != status.Block {
		t.Error("the replay came elsewhere")
	}
	var last Progress
	audited := must[Status](t)(c.Audit(ctx, func(p Progress) { last = p }))
	if audited.Block != status.Block || last.Height != status.Height || last.Of != status.Height || last.Transactions == 0 {
		t.Errorf("the audit came elsewhere: %+v, %+v", audited, last)
	}
	if blocks := must[[]Block](t)(c.Blocks(ctx, status.Height+1)); len(blocks) != 0 {
		t.Error("blocks above the newest")
	}
}

// A block that does not follow, or says what is not so, is refused, and the replay
// stays where it was.
func TestReplayRefuses(t *testing.T) {
	l := open(t, func(c *Config) { c.Clock = func() time.Time { return epoch } })
	ctx := t.Context()
	w := wallet(alice, l)
	must[Receipt](t)(w.Register(ctx, "aaa", files))
	must[Receipt](t)(w.Register(ctx, "bbb", files))
	var blocks []Block
	for _, raw := range must[[][]byte](t)(l.Blocks(ctx, 1, 10, 1<<20)) {
		blocks = append(blocks, must[Block](t)(DecodeBlock(raw)))
	}
	for _, tt := range []struct {
		name   string
		change func(*Block)
	}{
		{"first block again", func(b *Block) { *b = blocks[0] }},
		{"height", func(b *Block) { b.Header.Height++ }},
		{"previous", func(b *Block) { b.Header.Previous[0] ^= 1 }},
		{"network", func(b *Block) { b.Header.Network[0] ^= 1 }},
		{"time", func(b *Block) { b.Header.Time-- }},
		{"older rules", func(b *Block) { b.Header.Version = rulesNames }},
		{"app hash", func(b *Block) { b.Header.AppHash[0] ^= 1 }},
		{"body", func(b *Block) { b.Transactions = nil }},
		{"repeated transaction", func(b *Block) { b.Transactions = blocks[0].Transactions }},
		{"rejected transaction", func(b *Block) { b.Transactions = [][]byte{registration(t, bob, mail, 1, "aaa")} }},
		{"forged transaction", func(b *Block) {
			forged := slices.Clone(b.Transactions[0])
			forged[len(forged)-1] ^= 1
			b.Transactions = [][]byte{forged}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := must[*Replay](t)(NewReplay(network, NewGenesis(DefaultParameters())))
			if _, err := r.Apply(blocks[0]); err != nil {
				t.Fatal(err)
			}
			bad := blocks[1]
			tt.change(&bad)
			if tt.name != "body" {
				bad.Header.Transactions = bodyHash(bad.Header.Version, bad.Transactions)
			}
			if _, err := r.Apply(bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("accepted: %v", err)
			}
			if _, err := r.Apply(blocks[1]); err != nil {
				t.Errorf("the right one after it: %v", err)
			}
		})
	}
}
