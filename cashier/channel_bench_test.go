package cashier

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// benchChannel returns the ID of a channel for benchmarks.
func benchChannel(i int) (id voucher.ChannelID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15+1) // spread, as hashes are
	return id
}

// benchChannels returns the row of a channel that pays bob from 1 << 40.
func benchChannels(session voucher.SessionKey) channelRow {
	return channelRow{
		client: alice.Account(), provider: bob.Account(), node: node.Node(), service: files.Service(), session: session,
		opened: 1, state: ChannelOpen, deposit: 1 << 40, expires: 1 << 40,
	}
}

// withChannels adds the rows of channels to a state that has the money for them.
func withChannels(s memory, channels int, session voucher.SessionKey) {
	row := benchChannels(session)
	for i := range channels {
		s[string(channelKey(benchChannel(i)))] = row.append(nil)
	}
	escrow := voucher.Amount(channels) << 40
	s[string(marketKey)] = marketRow{last: 1000, escrowed: escrow, open: uint64(channels)}.encode()
	s[string(moneyKey(EscrowAccount(network)))] = Counters{CreditsPosted: escrow}.encode()
	s[string(moneyKey(SupplyAccount(network)))] = Counters{DebitsPosted: escrow}.encode()
	s[string(totalsKey)] = totals{debitsPosted: wide{0, uint64(escrow)}, creditsPosted: wide{0, uint64(escrow)}, issued: escrow, accounts: 1}.encode()
	s[string(leaseStartKey)] = appendUint64(nil, 1)
}

// The machine alone on blocks of batches of vouchers, each for a channel of its own:
// without signatures and disk, with the app hash over the rows.
func BenchmarkApplyVouchers(b *testing.B) {
	for _, channels := range []int{1 << 10, 1 << 16} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			state, app := begun(b, DefaultParameters())
			withChannels(state, channels, session.Public())
			const batches = 8
			blocks := make([][]Transaction, max(2, channels/MaxBatchVouchers/batches))
			n := 0
			for k := range blocks {
				for range batches {
					vouchers := make([]byte, 0, MaxBatchVouchers*voucher.SignedSize)
					for range MaxBatchVouchers {
						v := voucher.Voucher{Channel: benchChannel(n % channels), Sequence: 1, Amount: voucher.Amount(n + 1)}
						vouchers = voucher.Signed{Session: session.Public(), Voucher: v}.Append(vouchers)
						n++
					}
					blocks[k] = append(blocks[k], madeUp(bob.Account(), 1100, SettleBatch{transferNumber(uint64(n)), bob.Account(), vouchers}))
				}
			}
			b.ReportAllocs()
			i, cpu := 0, cpuTime(b)
			for b.Loop() {
				out, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: 1, Time: 1000, AppHash: app}, blocks[i%len(blocks)])
				if err != nil {
					b.Fatal(err)
				}
				if r := out.Results[0]; r.Rejection != nil || r.Paid == 0 || len(r.Refused) > 0 {
					b.Fatal(r)
				}
				i++
			}
			vouchers := float64(i * batches * MaxBatchVouchers)
			b.ReportMetric(vouchers/b.Elapsed().Seconds(), "vouchers/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/vouchers, "cpu-ns/voucher")
		})
	}
}

// Vouchers signed beforehand, settled in batches through the whole engine on this
// disk: signatures, block, fsync, answer. Each voucher is of a channel of its own.
func BenchmarkVouchers(b *testing.B) {
	const submitters = 8
	channels := 16 * MaxBatchVouchers
	c := &clock{time.Now()}
	l, err := Open(b.TempDir(), authority, Config{
		Network: network, MaxBlock: MaxBlockTransactions, fs: vfs.Default, Clock: c.time,
		Balances:   []GenesisBalance{{alice.Account(), voucher.Amount(channels) * 1_000_000}},
		Parameters: Parameters{MaxNames: 1, SupplyCap: voucher.MaxAmount},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	ids, keys := benchOpen(b, l, c, channels)
	batches := make([][]byte, b.N)
	until := c.now.Unix() + 3600
	for i := range batches {
		vouchers := make([]byte, 0, MaxBatchVouchers*voucher.SignedSize)
		for k := range MaxBatchVouchers {
			at := (i*MaxBatchVouchers + k) % channels
			v := voucher.Voucher{Channel: ids[at], Sequence: uint64(i) + 1, Amount: voucher.Amount(i/16 + 1)}
			v.Sign(keys[at%len(keys)], network)
			vouchers = voucher.Signed{Session: keys[at%len(keys)].Public(), Voucher: v}.Append(vouchers)
		}
		batches[i] = payment(b, bob, until, SettleBatch{transferNumber(uint64(i) + 1), bob.Account(), vouchers})
	}
	var next atomic.Int64
	b.SetParallelism(submitters / 2)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := l.Submit(b.Context(), batches[next.Add(1)-1])
			if err != nil || len(r.Refused) > 0 {
				b.Error(r, err)
			}
		}
	})
	b.StopTimer()
	cpu = cpuTime(b) - cpu
	vouchers := float64(b.N * MaxBatchVouchers)
	b.ReportMetric(vouchers/b.Elapsed().Seconds(), "vouchers/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/vouchers, "cpu-ns/voucher")
	if has := must[Account](b)(l.Account(b.Context(), bob.Account())).Counters.Balance(); has == 0 {
		b.Error("nothing was paid")
	}
}

// benchOpen opens channels of alice with bob, whose vouchers a few session keys sign.
func benchOpen(b *testing.B, l *Ledger, c *clock, channels int) (ids []voucher.ChannelID, keys []identity.PrivateKey) {
	until := c.now.Unix() + 3600
	ask := testAsk(c.now, 1)
	must[Receipt](b)(l.Submit(b.Context(), payment(b, bob, until, posting(1<<40, ask))))
	for i := range 64 {
		keys = append(keys, key(uint16(1000+i)))
	}
	ids = make([]voucher.ChannelID, channels)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < channels; i = int(next.Add(1)) - 1 {
				op := OpenChannel{
					ID: transferNumber(uint64(i) + 1), Provider: bob.Account(), Node: node.Node(), Service: files.Service(), Ask: ask.ID(),
					Session: keys[i%len(keys)].Public(), Deposit: 1_000_000, Expires: c.now.Unix() + 86_400,
				}
				ids[i] = op.Channel(network, alice.Account())
				if _, err := l.Submit(b.Context(), payment(b, alice, until, op)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return ids, keys
}

// What verifying vouchers alone takes, for a ratio.
func BenchmarkVerifyVouchers(b *testing.B) {
	var vouchers []voucher.Signed
	for i := range MaxBatchVouchers {
		k := key(uint16(1000 + i%64))
		v := voucher.Voucher{Channel: benchChannel(i), Sequence: 1, Amount: 1}
		v.Sign(k, network)
		vouchers = append(vouchers, voucher.Signed{Session: k.Public(), Voucher: v})
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if all, _ := voucher.VerifyAll(network, vouchers); !all {
				b.Error("good vouchers are refused")
			}
		}
	})
	b.ReportMetric(float64(b.N*MaxBatchVouchers)/b.Elapsed().Seconds(), "vouchers/s")
}
