package cashier

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// liar is a node that passes a ledger's answers on, and lies as it is told.
type liar struct {
	*httptest.Server
	mu     sync.Mutex
	ledger http.Handler
	lie    func(path string, reply []byte) []byte
}

func newLiar(t *testing.T, l *Ledger) *liar {
	n := &liar{ledger: must[*Server](t)(NewServer(l, ServerConfig{RequestBurst: 1e6}))}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if r.URL.Path == pathWitness || r.URL.Path == pathForks {
			// A liar does not pass on what would tell the ledger.
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(mustEncode(&Rejection{Code: NotFound}))
			return
		}
		inner := httptest.NewRecorder()
		n.ledger.ServeHTTP(inner, r)
		b := inner.Body.Bytes()
		if n.lie != nil {
			b = n.lie(r.URL.Path, b)
		}
		w.WriteHeader(inner.Code)
		_, _ = w.Write(b)
	}))
	t.Cleanup(n.Close)
	return n
}

func (n *liar) lies(lie func(path string, reply []byte) []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lie = lie
}

func (n *liar) serves(t *testing.T, l *Ledger) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ledger = must[*Server](t)(NewServer(l, ServerConfig{}))
}

// altered decodes an answer, changes it and encodes it again.
func altered[T any](t *testing.T, change func(*T)) func(string, []byte) []byte {
	return func(_ string, b []byte) []byte {
		var v T
		if err := identity.Unmarshal(b, &v); err != nil {
			t.Errorf("answer not understood: %v", err)
		}
		change(&v)
		return mustEncode(v)
	}
}

// caught checks that an answer was refused, for what reason, and that the node that
// gave it is named.
func caught(t *testing.T, n *liar, err error, reason error) {
	t.Helper()
	var a *AnswerError
	switch {
	case !errors.Is(err, ErrAnswer) || !errors.As(err, &a):
		t.Errorf("believed: %v", err)
	case a.Server.String() != n.Listener.Addr().String() || !strings.Contains(err.Error(), n.Listener.Addr().String()):
		t.Errorf("the liar is not named: %v", err)
	case reason != nil && !errors.Is(err, reason):
		t.Errorf("caught for another reason: %v, want %v", err, reason)
	}
}

// What a ledger says of names and accounts is proved, whether they exist or not.
func TestAnswersAreProved(t *testing.T) {
	l := open(t, func(c *Config) { c.Balances = []GenesisBalance{{bob.Account(), 77}} })
	n := newLiar(t, l)
	c := dial(t, n.Listener.Addr().String())
	ctx := t.Context()
	for range 2 { // before the first block, and after some
		if a := must[Answer](t)(c.Lookup(ctx, "free")); a.Registered || a.Signed != nil || a.Proof.Height != a.Height {
			t.Errorf("free: %+v", a)
		}
		if a := must[Account](t)(c.Account(ctx, alice.Account())); a.Counters != (Counters{}) || a.Proof.Network != network {
			t.Errorf("alice: %+v", a)
		}
		if a := must[Account](t)(c.Account(ctx, bob.Account())); a.Counters.Balance() != 77 {
			t.Errorf("bob: %+v", a)
		}
		must[Receipt](t)(wallet(alice, l).Register(ctx, name.Name("name-"+time.Now().Format("150405.000000000")[7:]), files))
	}
	must[Receipt](t)(wallet(alice, l).Register(ctx, "files", files))
	if a := must[Answer](t)(c.Lookup(ctx, "files")); !a.Registered || a.Record.Service != files.Service() || a.Since != a.Height || a.Proof.Rules != RulesVersion {
		t.Errorf("files: %+v", a)
	}
	must[Receipt](t)(wallet(alice, l).Offer(ctx, "files", bob.Account()))
	if a := must[Answer](t)(c.Lookup(ctx, "files")); a.Offered != bob.Account() {
		t.Errorf("offered: %+v", a)
	}
	must[Receipt](t)(wallet(alice, l).Release(ctx, "files"))
	if a := must[Answer](t)(c.Lookup(ctx, "files")); a.Registered || !a.Record.Released {
		t.Errorf("released: %+v", a)
	}
	cp := must[SignedCheckpoint](t)(c.Checkpoint(ctx))
	own := must[SignedCheckpoint](t)(l.Checkpoint(ctx))
	if cp.Height != own.Height || cp.AppHash != own.AppHash || cp.Roots != own.Roots || cp.AppHash != must[Status](t)(l.Status(ctx)).AppHash {
		t.Errorf("checkpoint %+v, the ledger's %+v", cp, own)
	}
}

// Every lie of a node that passes a ledger's answers on is caught, and the node named.
func TestLyingNode(t *testing.T) {
	now := epoch
	clock := func(c *Config) { c.Clock = func() time.Time { return now } }
	l := open(t, clock, func(c *Config) { c.Balances = []GenesisBalance{{bob.Account(), 77}} })
	n := newLiar(t, l)
	ctx := t.Context()
	client := func() *Client {
		c := dial(t, n.Listener.Addr().String())
		c.cfg.Clock = func() time.Time { return now }
		return c
	}
	record := func(nm name.Name) []byte {
		n.lies(nil)
		var kept []byte
		n.lies(func(_ string, b []byte) []byte { kept = bytes.Clone(b); return b })
		must[Answer](t)(client().Lookup(ctx, nm))
		n.lies(nil)
		return kept
	}
	must[Receipt](t)(wallet(alice, l).Register(ctx, "files", files))
	must[Receipt](t)(wallet(alice, l).Register(ctx, "gone", files))
	must[Receipt](t)(wallet(alice, l).Release(ctx, "gone"))
	old := record("files")
	must[Receipt](t)(wallet(alice, l).Update(ctx, "files", mail))
	free := record("free")
	var oldReply, freeReply nameReply
	for b, v := range map[*[]byte]*nameReply{&old: &oldReply, &free: &freeReply} {
		if err := identity.Unmarshal(*b, v); err != nil {
			t.Fatal(err)
		}
	}
	genuine := must[SignedCheckpoint](t)(l.Checkpoint(ctx))
	forgedRoots := genuine.Checkpoint
	forgedRoots.Roots.Names[0] ^= 1
	another := genuine.Checkpoint
	another.Network = bob.Network()
	seal := func(key identity.PrivateKey, c Checkpoint) []byte {
		return must[SignedCheckpoint](t)(c.seal(key)).Signed
	}

	for what, lie := range map[string]func(string, []byte) []byte{
		"a name that exists is free":          altered(t, func(r *nameReply) { *r = freeReply }),
		"its row is left out":                 altered(t, func(r *nameReply) { r.Proved.Rows[0].Value = nil }),
		"its row is another":                  altered(t, func(r *nameReply) { v := r.Proved.Rows[0].Value; v[len(v)/2] ^= 1 }),
		"its row is an older one":             altered(t, func(r *nameReply) { r.Proved.Rows[0] = oldReply.Proved.Rows[0] }),
		"the record is an older one":          altered(t, func(r *nameReply) { r.Record = oldReply.Record }),
		"the record is altered":               altered(t, func(r *nameReply) { r.Record[len(r.Record)/2] ^= 1 }),
		"no record":                           altered(t, func(r *nameReply) { r.Record = nil }),
		"the record is another name's":        altered(t, func(r *nameReply) { r.Record = must[Answer](t)(l.Lookup(ctx, "gone")).Signed }),
		"no rows":                             altered(t, func(r *nameReply) { r.Proved.Rows = nil }),
		"a row too many":                      altered(t, func(r *nameReply) { r.Proved.Rows = append(r.Proved.Rows, r.Proved.Rows[0]) }),
		"a proof is cut":                      altered(t, func(r *nameReply) { p := &r.Proved.Rows[0].Proof; *p = (*p)[:len(*p)-1] }),
		"a proof is altered":                  altered(t, func(r *nameReply) { p := r.Proved.Rows[0].Proof; p[len(p)-1] ^= 1 }),
		"no checkpoint":                       altered(t, func(r *nameReply) { r.Proved.Checkpoint = nil }),
		"a checkpoint by a stranger":          altered(t, func(r *nameReply) { r.Proved.Checkpoint = seal(alice, genuine.Checkpoint) }),
		"a checkpoint of another network":     altered(t, func(r *nameReply) { r.Proved.Checkpoint = seal(authority, another) }),
		"roots that are not in the app hash":  altered(t, func(r *nameReply) { r.Proved.Checkpoint = seal(authority, forgedRoots) }),
		"a checkpoint before the last change": altered(t, func(r *nameReply) { r.Proved.Checkpoint = oldReply.Proved.Checkpoint }),
		"nothing":                             func(string, []byte) []byte { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			n.lies(lie)
			a, err := client().Lookup(ctx, "files")
			if err == nil {
				t.Errorf("%+v", a)
			}
			caught(t, n, err, nil)
		})
	}
	t.Run("an account is richer", func(t *testing.T) {
		n.lies(altered(t, func(r *accountReply) {
			var a Account
			if err := openAnswer(typeAccount, r.Account, []identity.NodeID{authority.Node()}, &a); err != nil {
				t.Fatal(err)
			}
			a.Counters.CreditsPosted++
			r.Account = must[[]byte](t)(sealAs(authority, typeAccount, a)) // even the authority cannot say that
		}))
		_, err := client().Account(ctx, bob.Account())
		caught(t, n, err, nil)
	})
	t.Run("a channel that does not exist", func(t *testing.T) {
		n.lies(nil)
		if _, err := client().Channel(ctx, voucher.ChannelID{1}); !errors.Is(err, ErrNoChannel) {
			t.Error(err)
		}
		n.lies(altered(t, func(p *proved) { p.Rows[0].Value = new(channelRow).append(nil) }))
		_, err := client().Channel(ctx, voucher.ChannelID{1})
		caught(t, n, err, nil)
	})
	t.Run("an answer from before", func(t *testing.T) {
		c := client()
		n.lies(nil)
		must[Answer](t)(c.Lookup(ctx, "files"))
		n.lies(func(string, []byte) []byte { return old })
		_, err := c.Lookup(ctx, "files")
		caught(t, n, err, ErrRollback)
		if e, ok := errors.AsType[*RollbackError](err); !ok || e.Seen.Height != genuine.Height || e.Got.Height != genuine.Height-1 {
			t.Errorf("both are not named: %v", err)
		}
		// Who has seen nothing yet cannot know, but for an hour only.
		if a, err := client().Lookup(ctx, "files"); err != nil || a.Record.Service != files.Service() {
			t.Errorf("%+v, %v", a, err)
		}
		now = now.Add(MaxCheckpointAge + time.Second)
		_, err = client().Lookup(ctx, "files")
		caught(t, n, err, ErrStale)
		now = epoch.Add(-MaxCheckpointAge - time.Second)
		_, err = client().Lookup(ctx, "files")
		caught(t, n, err, ErrStale)
		now = epoch
	})
	t.Run("another history", func(t *testing.T) {
		c := client()
		n.lies(nil)
		must[Answer](t)(c.Lookup(ctx, "files"))
		other := open(t, clock)
		for i := range 6 {
			must[Receipt](t)(wallet(bob, other).Register(ctx, []name.Name{"aaa", "bbb", "ccc", "ddd", "eee", "fff"}[i], files))
			if height := uint64(i + 1); height < genuine.Height {
				continue
			}
			n.serves(t, other)
			_, err := c.Lookup(ctx, "files")
			caught(t, n, err, ErrFork)
			n.serves(t, l)
			must[Answer](t)(c.Lookup(ctx, "files"))
		}
	})
	t.Run("growth that is not shown", func(t *testing.T) {
		c := client()
		must[SignedCheckpoint](t)(c.Checkpoint(ctx))
		must[Receipt](t)(wallet(bob, l).Register(ctx, "more", files))
		n.lies(altered(t, func(p *proved) { p.Consistency = p.Consistency[:len(p.Consistency)-1] }))
		_, err := c.Checkpoint(ctx)
		caught(t, n, err, ErrFork)
		n.lies(nil)
		must[SignedCheckpoint](t)(c.Checkpoint(ctx))
	})
}

// kept is a CheckpointStore in memory.
type kept struct {
	signed []byte
	err    error
}

func (k *kept) Load() ([]byte, error) { return k.signed, k.err }
func (k *kept) Save(signed []byte)    { k.signed = signed }

// What a client has seen outlives it: a ledger restored from an old backup is noticed
// after both began anew.
func TestRollbackIsNoticedLater(t *testing.T) {
	ctx := t.Context()
	before, after := open(t), open(t)
	signed := registration(t, alice, files, 1, "files")
	for _, l := range []*Ledger{before, after} {
		must[Receipt](t)(l.Submit(ctx, signed))
	}
	must[Receipt](t)(before.Submit(ctx, registration(t, alice, files, 2, "more")))
	n := newLiar(t, before)
	store := &kept{}
	client := func() *Client {
		return must[*Client](t)(NewClient(ClientConfig{
			Network: network, Authorities: []identity.NodeID{authority.Node()}, Checkpoints: store,
			Dial: dial(t, n.Listener.Addr().String()).cfg.Dial,
		}))
	}
	first := must[SignedCheckpoint](t)(client().Checkpoint(ctx))
	if !bytes.Equal(store.signed, first.Signed) {
		t.Fatal("not saved")
	}
	n.serves(t, after)
	_, err := client().Checkpoint(ctx)
	caught(t, n, err, ErrRollback)
	if !bytes.Equal(store.signed, first.Signed) {
		t.Error("the older one took its place")
	}
	for _, bad := range []*kept{{signed: []byte("garbage")}, {err: net.ErrClosed}} {
		c := client()
		c.seen.store = bad
		if _, err := c.Checkpoint(ctx); err == nil || errors.Is(err, ErrAnswer) {
			t.Errorf("what cannot be read: %v", err)
		}
	}
}

// Answers of one moment may come in any order: none is taken for a rollback.
func TestAnswersOvertakeEachOther(t *testing.T) {
	ctx := t.Context()
	l := open(t)
	c := serve(t, l, ServerConfig{RequestBurst: 1e6})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 25 {
				if g == 0 {
					if _, err := wallet(alice, l).Register(ctx, name.Name("n-"+strings.Repeat("a", i+1)), files); err != nil {
						t.Error(err)
					}
				}
				if _, err := c.Lookup(ctx, "n-aaa"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A transaction is shown to be in its block, and the block in the log of a checkpoint.
func TestTransactionIsProvable(t *testing.T) {
	ctx := t.Context()
	l := open(t)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := l.Submit(ctx, registration(t, key(uint16(i+100)), files, 1, name.Name("n"+strings.Repeat("x", i/8+2)+string(rune('a'+i%8))))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cp := must[SignedCheckpoint](t)(l.Checkpoint(ctx))
	for h := uint64(1); h <= cp.Height; h++ {
		raw := must[[][]byte](t)(l.Blocks(ctx, h, 1, 1<<20))
		block := must[Block](t)(DecodeBlock(raw[0]))
		hash := block.Header.Hash()
		var path []tree.Hash
		err := l.read(func(s rows) (err error) {
			path, err = tree.Inclusion(h-1, cp.Height, func(level uint8, index uint64) (tree.Hash, error) {
				n, err := readLog(s.r, level, index)
				return tree.Hash(n), err
			})
			return err
		})
		if err != nil || tree.VerifyInclusion(h-1, cp.Height, tree.LogLeaf(hash[:]), path, tree.Hash(cp.Log)) != nil {
			t.Errorf("block %d is not in the log: %v", h, err)
		}
		size := uint64(len(block.Transactions))
		for i, tx := range block.Transactions {
			p, err := tree.InclusionIn(block.Transactions, i)
			if err != nil || tree.VerifyInclusion(uint64(i), size, tree.LogLeaf(tx), p, tree.Hash(block.Header.Transactions)) != nil {
				t.Errorf("transaction %d of block %d: %v", i, h, err)
			}
		}
	}
	if _, err := l.Consistency(2, 1); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := l.Consistency(0, cp.Height+1); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// The roots are a function of the rows: what was kept from block to block is what a
// ledger that opens builds from all of them, and what a replay comes to.
func TestCommitmentIsAFunctionOfTheRows(t *testing.T) {
	ctx := t.Context()
	l := open(t, func(c *Config) { c.Balances = []GenesisBalance{{alice.Account(), 1 << 30}} })
	namesHistory(t, l)
	for i := range uint64(30) {
		must[Receipt](t)(l.Submit(ctx, payment(t, alice, time.Now().Unix()+60, Transfer{transferNumber(i + 1), []Move{{Kind: MovePay, To: key(uint16(i + 50)).Account(), Amount: 1}}})))
	}
	again := must[*commitment](t)(openCommitment(rows{l.store.db}, *l.head.Load(), RulesVersion))
	if again.roots != l.books.roots || again.log.Root() != l.books.log.Root() || !again.head.equal(l.books.head) {
		t.Errorf("built anew: %+v, kept: %+v", again.roots, l.books.roots)
	}
	r := must[*Replay](t)(NewReplay(network, must[Genesis](t)(l.Genesis(ctx))))
	for _, raw := range must[[][]byte](t)(l.Blocks(ctx, 1, 1000, 1<<30)) {
		must[Outcome](t)(r.Apply(must[Block](t)(DecodeBlock(raw))))
	}
	if r.books.roots != l.books.roots || !slices.Equal(r.head.Log, l.head.Load().Log) {
		t.Error("a replay comes to other roots")
	}
	if l.books.roots.Names == (Hash{}) || l.books.roots.Accounts == (Hash{}) || l.books.roots.Parameters == (Hash{}) {
		t.Errorf("a tree is empty: %+v", l.books.roots)
	}
}
