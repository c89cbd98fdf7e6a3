package cashier

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// manyAccounts returns a state of so many accounts with money, its commitment, and
// the header of the block before the first.
func manyAccounts(b *testing.B, accounts int) (benchState, *commitment, Header) {
	few, _ := begun(b, DefaultParameters())
	s := benchState{few: few, place: make(map[identity.AccountID]int32, accounts)}
	total := totals{issued: 1 << 60, accounts: uint64(accounts)}
	total.creditsPosted, total.debitsPosted = wide{0, 1 << 60}, wide{0, 1 << 60}
	few[string(totalsKey)] = total.encode()
	h := head{Network: network}
	c := newCommitment(h, []Change{{parametersKey, few[string(parametersKey)]}})
	var changes []tree.Change
	for i := range accounts {
		s.place[benchAccount(i)] = int32(i)
		s.rows = Counters{CreditsPosted: 1 << 40}.append(s.rows)
		changes = append(changes, tree.Put(moneyKey(benchAccount(i)), s.rows[i*countersSize:]))
		if len(changes) == batchRows || i == accounts-1 {
			c.maps[accountsTree].Stage(changes)
			c.maps[accountsTree].Commit()
			changes = changes[:0]
		}
	}
	return s, c, Header{Version: RulesVersion, Network: network, Time: 1000}
}

// put takes the changes that later transfers build on. IDs are never asked for again.
func (s *benchState) put(changes []Change) {
	for _, c := range changes {
		switch c.Key[0] {
		case 'b':
			copy(s.rows[s.place[identity.AccountID(c.Key[1:])]*countersSize:], c.Value)
		case transferRef:
		default:
			s.few[string(c.Key)] = c.Value
		}
	}
}

// Blocks of 4096 transfers among all accounts: judged, and the app hash made with the
// trees, the log and the chain; without signatures and disk.
func BenchmarkApplyAppHash(b *testing.B) {
	for _, accounts := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			state, books, h := manyAccounts(b, accounts)
			n := 0
			var judged, hashed, longest time.Duration
			cpu := time.Duration(0)
			for b.Loop() {
				txs := make([]Transaction, MaxBlockTransactions)
				for i := range txs {
					k := n*MaxBlockTransactions + i
					txs[i] = Transaction{
						Account: benchAccount(k * 7919 % accounts), Network: network, ValidUntil: 1000 + int64(k%600),
						Operation: Transfer{transferNumber(uint64(k) + 1), []Move{{Kind: MovePay, To: benchAccount((k*104729 + 1) % accounts), Amount: 1}}},
					}
					binary.BigEndian.PutUint64(txs[i].id[:], uint64(k)+1)
				}
				h.Height++
				cpuBefore, start := cpuTime(b), time.Now()
				out, err := Apply(state, h, txs)
				if err != nil {
					b.Fatal(err)
				}
				between := time.Now()
				next, _ := books.stage(h, out.Changes)
				books.commit(next, h.Version)
				end := time.Now()
				cpu += cpuTime(b) - cpuBefore
				judged, hashed, longest = judged+between.Sub(start), hashed+end.Sub(between), max(longest, end.Sub(between))
				if r := out.Results[0]; r.Rejection != nil {
					b.Fatal(r.Rejection)
				}
				state.put(out.Changes)
				h.AppHash, h.Previous = next.AppHash, next.Block
				n++
			}
			transfers := float64(n * MaxBlockTransactions)
			b.ReportMetric(transfers/(judged+hashed).Seconds(), "transfers/s")
			b.ReportMetric(float64(cpu.Nanoseconds())/transfers, "cpu-ns/transfer")
			b.ReportMetric(float64(judged.Microseconds())/1000/float64(n), "judged-ms/block")
			b.ReportMetric(float64(hashed.Microseconds())/1000/float64(n), "app-hash-ms/block")
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
		})
	}
}

// storeOf writes a ledger of so many accounts, and as many transfers whose IDs are
// remembered, to a folder.
func storeOf(b *testing.B, dir string, accounts int) {
	cfg := Config{Network: network, fs: vfs.Default}.withDefaults()
	s, h, err := openLedgerStore(dir, cfg)
	if err != nil {
		b.Fatal(err)
	}
	books := must[*commitment](b)(openCommitment(rows{s.db}, h, 0))
	const perBlock = 50_000
	for from := 0; from < accounts; from += perBlock {
		var changes []Change
		for i := from; i < min(accounts, from+perBlock); i++ {
			changes = append(changes, Change{moneyKey(benchAccount(i)), Counters{CreditsPosted: 1 << 20}.encode()})
			r := reference{kind: transferRef, account: benchAccount(i), id: transferNumber(uint64(i))}
			changes = append(changes, Change{r.key(), transferRow{}.encode()})
		}
		slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(string(a.Key), string(b.Key)) })
		block := Block{Header: Header{
			Version: RulesVersion, Network: network, Height: h.Height + 1, Previous: h.Block, AppHash: h.AppHash,
			Transactions: bodyHash(RulesVersion, nil),
		}}
		next, nodes := books.stage(block.Header, changes)
		if err := s.write(block, changes, next, nodes); err != nil {
			b.Fatal(err)
		}
		books.commit(next, RulesVersion)
		h = next
	}
	if err := s.close(); err != nil {
		b.Fatal(err)
	}
}

const openVariable = "CASHIER_BENCH_OPEN"

// openAndTell is what the process does whose memory BenchmarkOpen looks at.
func openAndTell(b *testing.B, dir string) {
	start := time.Now()
	l, err := Open(dir, authority, Config{Network: network})
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	fmt.Printf("\nopened %d\n%s\n", took.Microseconds(), must[[]byte](b)(os.ReadFile("/proc/self/status")))
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// A ledger of many accounts is opened by a process of its own: how long that takes,
// and what it keeps in memory, trees and all.
func BenchmarkOpen(b *testing.B) {
	if dir := os.Getenv(openVariable); dir != "" {
		openAndTell(b, dir)
		return
	}
	for _, accounts := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			dir := b.TempDir()
			storeOf(b, dir, accounts)
			n, found := 0, map[string]float64{}
			for b.Loop() {
				cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkOpen$", "-test.benchtime=1x")
				cmd.Env = append(os.Environ(), openVariable+"="+dir)
				out, err := cmd.CombinedOutput()
				if err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				for line := range strings.Lines(string(out)) {
					if f := strings.Fields(line); len(f) >= 2 && (f[0] == "opened" || f[0] == "VmRSS:" || f[0] == "VmHWM:") {
						v, _ := strconv.ParseFloat(f[1], 64)
						found[f[0]] = max(found[f[0]], v)
					}
				}
				found["cpu"] += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
				n++
			}
			if found["VmRSS:"] == 0 {
				b.Fatal("the other process said nothing")
			}
			b.ReportMetric(found["opened"]/1e6, "open-s")
			b.ReportMetric(found["cpu"]/float64(n), "cpu-s")
			b.ReportMetric(found["VmRSS:"]/1e3, "resident-MB")
			b.ReportMetric(found["VmHWM:"]/1e3, "most-MB")
		})
	}
}

// What an answer about an account costs the ledger with a million of them, while
// nothing else is done: rows, proofs, signature.
func BenchmarkProve(b *testing.B) {
	dir := b.TempDir()
	storeOf(b, dir, 1_000_000)
	l, err := Open(dir, authority, Config{Network: network})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	size := 0
	n := 0
	for b.Loop() {
		p, err := l.prove(b.Context(), 0, accountKeys(benchAccount(n%1_000_000)), func(rows, Checkpoint) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		size = len(mustEncode(p))
		n++
	}
	b.ReportMetric(float64(size), "answer-bytes")
}
