package cashier

import (
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/routing/identity"
)

// benchAccount returns an account without a key, for what looks at no signature.
func benchAccount(i int) (a identity.AccountID) {
	binary.BigEndian.PutUint64(a[:], uint64(i)*0x9e3779b97f4a7c15+1) // spread, as keys are
	binary.BigEndian.PutUint64(a[24:], uint64(i)+1)
	return a
}

// benchState holds money rows without pointers: what is measured is the machine,
// not the collector's way through a million rows.
type benchState struct {
	few   memory
	place map[identity.AccountID]int32
	rows  []byte
}

func (s benchState) Get(key []byte) ([]byte, error) {
	if key[0] != 'b' {
		return s.few.Get(key)
	}
	i, ok := s.place[identity.AccountID(key[1:])]
	if !ok {
		return nil, nil
	}
	return s.rows[i*countersSize : (i+1)*countersSize], nil
}

// cpuTime is what this process has computed, which says more than the clock on a
// machine that has other things to do.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The machine alone on blocks of 4096 transfers, each among accounts of its own:
// without signatures and disk, with the app hash over all rows a block changes.
func BenchmarkApplyTransfers(b *testing.B) {
	for _, accounts := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			few, app := begun(b, DefaultParameters())
			state := benchState{few: few, place: make(map[identity.AccountID]int32, accounts)}
			for i := range accounts {
				state.place[benchAccount(i)] = int32(i)
				state.rows = Counters{CreditsPosted: 1 << 40}.append(state.rows)
			}
			total := totals{issued: 1 << 60, accounts: uint64(accounts)}
			total.creditsPosted, total.debitsPosted = wide{0, 1 << 60}, wide{0, 1 << 60}
			few[string(totalsKey)] = total.encode()
			blocks := make([][]Transaction, 8)
			for k := range blocks {
				for i := range MaxBlockTransactions {
					n := k*MaxBlockTransactions + i
					tx := Transaction{
						Account: benchAccount(n * 7919 % accounts), Network: network, ValidUntil: 1000 + int64(n%600),
						Operation: Transfer{transferNumber(uint64(n) + 1), []Move{{Kind: MovePay, To: benchAccount((n*7919 + 1) % accounts), Amount: 1}}},
					}
					binary.BigEndian.PutUint64(tx.id[:], uint64(n)+1)
					blocks[k] = append(blocks[k], tx)
				}
			}
			b.ReportAllocs()
			n, changes, cpu := 0, 0, cpuTime(b)
			for b.Loop() {
				out, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1, Time: 1000, AppHash: app}, blocks[n%len(blocks)])
				if err != nil {
					b.Fatal(err)
				}
				if r := out.Results[0]; r.Rejection != nil {
					b.Fatal(r.Rejection)
				}
				n, changes = n+1, len(out.Changes)
			}
			b.ReportMetric(float64(n*MaxBlockTransactions)/b.Elapsed().Seconds(), "transfers/s")
			b.ReportMetric(float64(changes), "rows/block")
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(n*MaxBlockTransactions), "cpu-ns/transfer")
		})
	}
}

// Transfers signed beforehand through the whole engine on this disk: signature,
// block, fsync, answer. Latency is from submission to answer.
func BenchmarkTransfers(b *testing.B) {
	for _, submitters := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("submitters=%d", submitters), func(b *testing.B) {
			const payers = 512
			var balances []GenesisBalance
			for i := range payers {
				balances = append(balances, GenesisBalance{key(uint16(i + 100)).Account(), 1 << 30})
			}
			l, err := Open(b.TempDir(), authority, Config{Network: network, Balances: balances, MaxBlock: MaxBlockTransactions, fs: vfs.Default})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			until := time.Now().Unix() + 3600
			signed := make([][]byte, b.N)
			for i := range signed {
				signed[i] = payment(b, key(uint16(i%payers+100)), until, Transfer{transferNumber(uint64(i) + 1), []Move{
					{Kind: MovePay, To: key(uint16((i+1)%payers + 100)).Account(), Amount: 1},
				}})
			}
			latency := make([]time.Duration, b.N)
			var next atomic.Int64
			b.SetParallelism(max(1, submitters/2))
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1) - 1
					start := time.Now()
					if _, err := l.Submit(b.Context(), signed[i]); err != nil {
						b.Error(err)
					}
					latency[i] = time.Since(start)
				}
			})
			b.StopTimer()
			cpu = cpuTime(b) - cpu
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/transfer")
			m := l.Metrics()
			slices.Sort(latency)
			b.ReportMetric(float64(m.Accepted)/b.Elapsed().Seconds(), "transfers/s")
			b.ReportMetric(float64(latency[len(latency)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(m.Accepted)/float64(max(m.Blocks, 1)), "transfers/block")
		})
	}
}

// What the disk and Pebble alone take, for a ratio: batches as large as those of
// the ledger, of rows like its own.
func BenchmarkPebbleBatches(b *testing.B) {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{FormatMajorVersion: pebbleFormat, Logger: quiet{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	const perBatch = 512
	n := 0
	for b.Loop() {
		batch := db.NewBatch()
		for range perBatch {
			n++
			var k [33]byte
			binary.BigEndian.PutUint64(k[:], uint64(n)*0x9e3779b97f4a7c15)
			_ = batch.Set(k[:], make([]byte, countersSize), nil)
			k[8] = 1
			_ = batch.Set(k[:], make([]byte, countersSize), nil)
			_ = batch.Set(append(k[:], k[:16]...), make([]byte, transferRowSize), nil)
		}
		if err := batch.Commit(pebble.Sync); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "transfers/s")
}

var verifyTransfers = flag.Int("transfers", 20_000, "transfers in the books that BenchmarkVerify checks")

// The books checked from their beginning: signatures, rules, hashes, rows, sums.
func BenchmarkVerify(b *testing.B) {
	transfers := int64(*verifyTransfers)
	l, err := Open("ledger", authority, Config{
		Network: network, Balances: []GenesisBalance{{alice.Account(), 1 << 40}}, MaxBlock: MaxBlockTransactions, fs: vfs.NewMem(),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	until := time.Now().Unix() + 3600
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for i := next.Add(1); i <= transfers; i = next.Add(1) {
				op := Transfer{transferNumber(uint64(i)), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}}
				if _, err := l.Submit(b.Context(), payment(b, alice, until, op)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cpu, n := cpuTime(b), 0
	for b.Loop() {
		if err := l.Verify(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(int64(n)*transfers)/b.Elapsed().Seconds(), "transfers/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(int64(n)*transfers), "cpu-ns/transfer")
}
