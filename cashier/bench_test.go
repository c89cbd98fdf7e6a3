package cashier

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/naming/name"
)

// Registrations signed beforehand, by as many submitters as wait at once: what
// group commit makes of them on this disk.
func BenchmarkRegister(b *testing.B) {
	for _, parallel := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("submitters=%d", parallel), func(b *testing.B) {
			l, err := Open(b.TempDir(), authority, Config{Network: network, Parameters: Parameters{MaxNames: 1_000_000}, fs: vfs.Default})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			signed := make([][]byte, b.N)
			for i := range signed {
				// An account of its own for each, so that the order does not matter.
				signed[i] = registration(b, key(uint16(i)), files, uint64(i/65536)+1, name.Name(fmt.Sprintf("n%d", i+100)))
			}
			var next atomic.Int64
			b.SetParallelism(parallel)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.Submit(b.Context(), signed[next.Add(1)-1]); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			m := l.Metrics()
			b.ReportMetric(float64(m.Accepted)/b.Elapsed().Seconds(), "registrations/s")
			b.ReportMetric(float64(m.Accepted)/float64(max(m.Blocks, 1)), "transactions/block")
		})
	}
}

// The machine alone, without signatures and disk.
func BenchmarkApply(b *testing.B) {
	state, app := begun(b, Parameters{MaxNames: 1_000_000})
	const perBlock = 1000
	var blocks [][]Transaction
	for range 8 {
		var txs []Transaction
		for range perBlock {
			i := len(blocks)*perBlock + len(txs)
			tx := Transaction{
				Account: key(uint16(i)).Account(), Network: network, Sequence: 1,
				Operation: Register{name.Name(fmt.Sprintf("n%d", i+100)), files.Service(), Signature{}, 0}, signed: make([]byte, 400),
			}
			tx.id = Hash{byte(i), byte(i >> 8), 1}
			txs = append(txs, tx)
		}
		blocks = append(blocks, txs)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		h := Header{Version: RulesVersion, Network: network, Height: 1, Time: 1, AppHash: app}
		if _, err := Apply(state, h, blocks[n%len(blocks)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n*perBlock)/b.Elapsed().Seconds(), "transactions/s")
}
