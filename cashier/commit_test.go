package cashier

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
)

func delayed() Parameters {
	p := DefaultParameters()
	p.RevealDelay, p.RevealDelayBlocks, p.CommitDeposit = 60, 2, voucher.Credit
	return p
}

// Whoever sees a reveal cannot be quicker: a commit made then is too young, the name
// is taken when it has come of age, and the commit seen opens to nothing of his.
func TestFrontRunningARevealFails(t *testing.T) {
	b := newBook(t, delayed(), GenesisBalance{alice.Account(), 10 * voucher.Credit}, GenesisBalance{bob.Account(), 10 * voucher.Credit})
	b.want("register at once", b.do(bob, registering(bob, mail, "prize", 0)), CommitFirst)
	b.want("commit", b.do(alice, committing(alice, "prize", 1)), Accepted)
	copied := CommitHash(network, alice.Account(), "prize", Salt{1})
	b.want("copy of the commit", b.do(bob, operation(CommitName{copied})), Accepted)
	b.time += 60
	b.block()
	// Bob sees the reveal before it is in a block.
	b.want("copied commit revealed", b.do(bob, revealing(bob, mail, "prize", 1, 0)), NoCommit)
	b.want("own commit", b.do(bob, committing(bob, "prize", 2)), Accepted)
	b.want("own commit revealed at once", b.do(bob, revealing(bob, mail, "prize", 2, 0)), CommitImmature)
	b.want("the reveal", b.do(alice, revealing(alice, files, "prize", 1, 0)), Accepted)
	b.time += 61
	b.block()
	r := b.do(bob, revealing(bob, mail, "prize", 2, 0))
	b.want("own commit revealed in time", r, NameTaken)
	if r != nil && r.Owner != alice.Account() {
		t.Errorf("taken by %s", r.Owner)
	}
	b.want("revealed again", b.do(alice, revealing(alice, files, "prize", 1, 0)), NoCommit)
	if got := b.account(alice.Account()).Balance(); got != 10*voucher.Credit {
		t.Errorf("alice's deposit was not given back: %s", got)
	}
}

// Commits to every word there is do not take a name that is registered, and lose
// their deposits.
func TestStandingDictionaryCommits(t *testing.T) {
	treasury := key(9).Account()
	p := delayed()
	p.Treasury = treasury
	b := newBook(t, p, GenesisBalance{alice.Account(), 10 * voucher.Credit}, GenesisBalance{bob.Account(), 100 * voucher.Credit})
	words := []name.Name{"apple", "banana", "cherry", "prize"}
	for i, n := range words {
		b.want("standing commit", b.do(bob, committing(bob, n, byte(i))), Accepted)
	}
	b.time += 3600
	b.want("commit", b.do(alice, committing(alice, "prize", 77)), Accepted)
	b.time += 60
	b.block()
	b.want("reveal", b.do(alice, revealing(alice, files, "prize", 77, 0)), Accepted)
	b.want("the older commit, a block later", b.do(bob, revealing(bob, mail, "prize", 3, 0)), NameTaken)
	if row, _ := b.name("prize"); row.Owner != alice.Account() {
		t.Errorf("prize belongs to %s", row.Owner)
	}
	b.time = epoch.Unix() + commitLife + 1 // the list of its 16 seconds is not over yet
	b.want("a lapsed commit", b.do(bob, revealing(bob, mail, "apple", 0, 0)), CommitLapsed)
	b.pass(32)
	b.want("a forgotten commit", b.do(bob, revealing(bob, mail, "apple", 0, 0)), NoCommit)
	if got := b.account(treasury).Balance(); got != voucher.Amount(len(words))*voucher.Credit {
		t.Errorf("the treasury has %s", got)
	}
	if left := b.account(NamesAccount(network)).Balance(); left != 0 {
		t.Errorf("%s of deposits left", left)
	}
}

// Of two reveals in one block the older commit has the name, in either order, and
// the other's rent is given back.
func TestOlderCommitWinsWithinABlock(t *testing.T) {
	for _, olderFirst := range []bool{true, false} {
		p := delayed()
		p.Rent = 2 * voucher.Credit
		b := newBook(t, p, GenesisBalance{alice.Account(), 10 * voucher.Credit}, GenesisBalance{bob.Account(), 10 * voucher.Credit})
		b.want("older commit", b.do(alice, committing(alice, "prize", 1)), Accepted)
		b.want("younger commit", b.do(bob, committing(bob, "prize", 2)), Accepted)
		b.time += 60
		b.block()
		block := [][]byte{
			b.sign(alice, revealing(alice, files, "prize", 1, year)),
			b.sign(bob, revealing(bob, mail, "prize", 2, year)),
		}
		if !olderFirst {
			slices.Reverse(block)
		}
		b.block(block...)
		if row, _ := b.name("prize"); row.Owner != alice.Account() || row.Service != files.Service() {
			t.Errorf("older first %v: prize belongs to %s", olderFirst, row.Owner)
		}
		if got := b.account(bob.Account()).Balance(); got != 10*voucher.Credit && got != 9*voucher.Credit {
			t.Errorf("older first %v: bob has %s", olderFirst, got) // 9: his commit stands still
		}
		if got := b.account(alice.Account()).Balance(); got != 8*voucher.Credit {
			t.Errorf("older first %v: alice has %s", olderFirst, got)
		}
		for who, want := range map[string]uint32{"alice": 1, "bob": 0} {
			var row accountRow
			must[bool](t)(read(b.state, accountKey(cast[who].Account()), &row))
			if row.Names != want {
				t.Errorf("older first %v: %s has %d names", olderFirst, who, row.Names)
			}
		}
	}
}

// The engine puts reveals of one name in the order of their commits, so that each
// submitter is told the truth.
func TestEngineOrdersReveals(t *testing.T) {
	b := newBook(t, DefaultParameters())
	b.want("older", b.do(alice, committing(alice, "prize", 1)), Accepted)
	b.want("younger", b.do(bob, committing(bob, "prize", 2)), Accepted)
	var batch []*submission
	for _, signed := range [][]byte{
		b.sign(bob, revealing(bob, mail, "prize", 2, 0)),
		b.sign(bob, operation(Release{"other"})),
		b.sign(alice, revealing(alice, files, "prize", 1, 0)),
	} {
		batch = append(batch, &submission{tx: must[Transaction](t)(OpenTransaction(network, signed))})
	}
	if err := orderReveals(b.state, batch); err != nil {
		t.Fatal(err)
	}
	for i, want := range []Kind{KindRevealName, KindRelease, KindRevealName} {
		if got := batch[i].tx.Operation.Kind(); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
	if batch[0].tx.Account != alice.Account() || batch[2].tx.Account != bob.Account() {
		t.Error("the younger commit is still first")
	}
}

func TestCommitRefusals(t *testing.T) {
	b := newBook(t, delayed(), GenesisBalance{alice.Account(), 3 * voucher.Credit})
	b.want("without the deposit", b.do(bob, committing(bob, "prize", 1)), InsufficientFunds)
	b.want("to nothing", b.do(alice, operation(CommitName{})), Malformed)
	b.want("commit", b.do(alice, committing(alice, "prize", 1)), Accepted)
	b.want("twice", b.do(alice, committing(alice, "prize", 1)), CommitExists)
	b.want("of nothing committed", b.do(alice, revealing(alice, files, "else", 1, 0)), NoCommit)
	b.want("wrong salt", b.do(alice, revealing(alice, files, "prize", 2, 0)), NoCommit)
	b.time += 59
	b.block()
	r := b.do(alice, revealing(alice, files, "prize", 1, 0))
	b.want("a second early", r, CommitImmature)
	if r != nil && (r.RetryAfter != 1 || r.Time != b.time+1) {
		t.Errorf("try again in %d s, at %d", r.RetryAfter, r.Time)
	}
	b.time++
	b.want("wrong consent", b.do(alice, revealing(bob, files, "prize", 1, 0)), NoConsent)
	b.want("a day", b.do(alice, revealing(alice, files, "prize", 1, 24*60*60)), BadTerm)
	b.want("four years", b.do(alice, revealing(alice, files, "prize", 1, 4*year)), BadTerm)
	b.want("reveal", b.do(alice, revealing(alice, files, "prize", 1, 0)), Accepted)

	// By blocks: two of them must have passed.
	p := DefaultParameters()
	p.RevealDelayBlocks = 2
	b = newBook(t, p)
	b.want("commit", b.do(alice, committing(alice, "prize", 1)), Accepted)
	b.want("a block early", b.do(alice, revealing(alice, files, "prize", 1, 0)), CommitImmature)
	b.want("in time", b.do(alice, revealing(alice, files, "prize", 1, 0)), Accepted)

	// With no delay set both ways work; a reveal is never in its commit's block.
	b = newBook(t, DefaultParameters())
	results := b.block(b.sign(alice, committing(alice, "prize", 1)), b.sign(alice, revealing(alice, files, "prize", 1, 0)))
	b.want("reveal in the commit's block", results[1].Rejection, CommitImmature)
	b.want("reveal in the next", b.do(alice, revealing(alice, files, "prize", 1, 0)), Accepted)
	b.want("register", b.do(alice, registering(alice, files, "plain", 0)), Accepted)
}

// On a network where nothing is set a registration is one transaction in one block, and
// so one fsync, as it was before there were commits.
func TestRegistrationIsOneBlock(t *testing.T) {
	l := open(t)
	w := wallet(alice, l)
	for i, n := range []name.Name{"one", "two", "three"} {
		must[Receipt](t)(w.Register(t.Context(), n, files))
		if got := l.Metrics().Blocks; got != uint64(i)+1 {
			t.Errorf("%d names took %d blocks", i+1, got)
		}
	}
	must[Receipt](t)(w.Commit(t.Context(), "four", Salt{4}))
	must[Receipt](t)(w.Reveal(t.Context(), "four", Salt{4}, files, 0))
	if got := l.Metrics().Blocks; got != 5 {
		t.Errorf("a commit and its reveal took %d blocks", got-3)
	}
	if a := must[Answer](t)(l.Lookup(t.Context(), "four")); a.Record.Owner != alice.Account() {
		t.Errorf("four: %+v", a)
	}
}

// A registration in one step, and in two, through the engine and this disk.
func BenchmarkRegistration(b *testing.B) {
	for _, steps := range []int{1, 2} {
		b.Run(fmt.Sprintf("steps=%d", steps), func(b *testing.B) {
			l, err := Open(b.TempDir(), authority, Config{Network: network, Parameters: Parameters{MaxNames: 1_000_000}, fs: vfs.Default})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			w, i := wallet(alice, l), 0
			for b.Loop() {
				n := name.Name(fmt.Sprintf("name-%d", i))
				i++
				if steps == 1 {
					must[Receipt](b)(w.Register(b.Context(), n, files))
					continue
				}
				must[Receipt](b)(w.Commit(b.Context(), n, Salt{1}))
				must[Receipt](b)(w.Reveal(b.Context(), n, Salt{1}, files, 0))
			}
		})
	}
}
