package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/saltest"
)

// escrow is a ledger of channels in memory.
type escrow struct {
	mu       sync.Mutex // guards below
	ask      voucher.Ask
	channels map[voucher.ChannelID]meter.Channel
	permit   error
	openErr  error
}

func (e *escrow) Permit(voucher.Ask) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.permit
}

func (e *escrow) Held() []meter.Held { return nil }

func (e *escrow) Open(_ context.Context, ask voucher.Ask) (meter.Held, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.openErr != nil {
		return meter.Held{}, e.openErr
	}
	key, err := identity.GenerateKey(rand.Reader)
	if err != nil {
		return meter.Held{}, err
	}
	c := meter.Channel{
		ID: voucher.ChannelID{1, byte(len(e.channels))}, Ask: ask, SessionKey: key.Public(), Deposit: 1_000_000_000, Open: true,
	}
	e.channels[c.ID] = c
	return meter.Held{Channel: c, Key: key}, nil
}

func (e *escrow) TopUp(_ context.Context, id voucher.ChannelID, atLeast voucher.Amount) (meter.Channel, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.channels[id]
	c.Deposit = max(c.Deposit, atLeast)
	e.channels[id] = c
	return c, nil
}

func (e *escrow) State(_ context.Context, id voucher.ChannelID) (meter.Channel, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.channels[id]
	if !ok {
		return c, errors.New("no such channel")
	}
	return c, nil
}

func (e *escrow) Ask(service identity.ServiceID) (voucher.Ask, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ask, e.ask.Service == service && !e.ask.Price.IsZero()
}

// meteredNodes are a client and a provider with nothing but sessions and meters.
type meteredNodes struct {
	client, provider *sal.Node
	earns, pays      *meter.Meter
	escrow           *escrow
	service          identity.ServiceID
}

// openMetered starts both; without metered they have no meter at all.
func openMetered(tb testing.TB, price voucher.Price, metered bool) *meteredNodes {
	tb.Helper()
	r := &saltest.Resolver{}
	service := saltest.Key(100).Service()
	m := &meteredNodes{service: service, escrow: &escrow{channels: map[voucher.ChannelID]meter.Channel{}}}
	if !price.IsZero() {
		m.escrow.ask = voucher.Ask{
			Service: service, Node: saltest.Key(2).Node(), Account: saltest.Key(9).Account(), Price: price, LossAllowance: 50_000, ValidTo: 1 << 40, Sequence: 1,
		}
	}
	open := func(key identity.PrivateKey) (*sal.Node, *meter.Meter) {
		cfg := sal.Config{
			Key: key, Network: saltest.Key(200).Network(), Listen: netip.MustParseAddrPort("127.0.0.1:0"), Resolver: r, AllowLoopback: true,
		}
		var sessions atomic.Pointer[sal.Node]
		var mt *meter.Meter
		if metered {
			var err error
			mt, err = meter.Open(meter.Config{
				Key: key, Network: cfg.Network, Dir: tb.TempDir(), Channels: m.escrow, Asks: m.escrow, PaymentTimeout: 10 * time.Second,
				Logger: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
				Send: func(peer identity.NodeID, b []byte) bool {
					n := sessions.Load()
					return n != nil && n.SendFrame(peer, b)
				},
			})
			if err != nil {
				tb.Fatal(err)
			}
			cfg.Meter = sessionMeter{mt}
			tb.Cleanup(func() {
				if err := mt.Close(); err != nil {
					tb.Error(err)
				}
			})
		}
		n, err := sal.Open(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		sessions.Store(n)
		tb.Cleanup(func() { n.Close() })
		return n, mt
	}
	m.client, m.pays = open(saltest.Key(1))
	m.provider, m.earns = open(saltest.Key(2))
	r.SetService(service, record.Candidate{
		Node: m.provider.ID(), Locators: []netip.AddrPort{m.provider.Locators()[0]}, Weight: 1,
	})
	return m
}

// serve sends size bytes in every session, and then reads to the end.
func (m *meteredNodes) serve(size int) {
	m.provider.Handle(m.service, func(_ context.Context, in *sal.Incoming) {
		c, err := in.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 128<<10)
		for left := size; left > 0; left -= min(left, len(buf)) {
			if _, err := c.Write(buf[:min(left, len(buf))]); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
}

func (m *meteredNodes) fetch(ctx context.Context, up int) (down int64, nonce [32]byte, err error) {
	c, err := m.client.Dial(ctx, m.service, 80)
	if err != nil {
		return 0, nonce, err
	}
	defer c.Close()
	var wg sync.WaitGroup
	var written error
	wg.Go(func() {
		_, written = c.Write(make([]byte, up))
		written = errors.Join(written, c.CloseWrite())
	})
	down, err = io.Copy(io.Discard, c)
	wg.Wait()
	return down, c.Nonce(), errors.Join(err, written)
}

// What is delivered over real sessions is paid to the byte, and has a receipt.
func TestMeteredSessions(t *testing.T) {
	m := openMetered(t, voucher.Price{PerGiB: 1_000_000, PerHour: 1000}, true)
	const size, up = 20 << 20, 1 << 20
	m.serve(size)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 3 {
		down, nonce, err := m.fetch(ctx, up)
		if err != nil || down != size {
			t.Fatalf("%d bytes, %v", down, err)
		}
		r, err := m.pays.Receipts().Await(ctx, nonce)
		if err != nil || r.Sent != size || r.Received != up {
			t.Errorf("receipt %+v, %v", r, err)
		}
		want := uint64((i + 1) * (size + up))
		for m.earns.Earned()[0].Voucher.Bytes != want {
			select {
			case <-ctx.Done():
				t.Fatalf("paid for %d bytes of %d", m.earns.Earned()[0].Voucher.Bytes, want)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	if earned := m.earns.Earned(); len(earned) != 1 || earned[0].Voucher.Amount != m.pays.Spent()[0].Voucher.Amount {
		t.Errorf("earned %+v", earned)
	}
}

// Many sessions that are given up half way neither stop the others nor the channel.
func TestMeteredAborts(t *testing.T) {
	m := openMetered(t, voucher.Price{PerGiB: 1_000_000}, true)
	m.serve(4 << 20)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 20 {
		c, err := m.client.Dial(ctx, m.service, 80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, c, int64(i)<<17); err != nil {
			t.Logf("%+v, %+v", m.earns.Metrics(), m.pays.Metrics())
			t.Logf("%+v, %+v", m.earns.Earned(), m.pays.Spent())
			t.Fatal(err)
		}
		if i%2 == 0 {
			_ = c.SetLinger(0)
		}
		c.Close()
	}
	if down, _, err := m.fetch(ctx, 0); err != nil || down != 4<<20 {
		t.Errorf("after aborted sessions: %d bytes, %v", down, err)
	}
}

// The settings' no is a refused connection at the dialer.
func TestMeterRefusal(t *testing.T) {
	m := openMetered(t, voucher.Price{PerGiB: 1_000_000}, true)
	m.serve(1000)
	m.escrow.permit = fmt.Errorf("%w: 2 credits of 2", meter.ErrBudget)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := m.client.Dial(ctx, m.service, 80)
	if !errors.Is(err, meter.ErrBudget) || !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, sal.ErrPayment) {
		t.Errorf("beyond the budget: %v", err)
	}
	m.escrow.mu.Lock()
	m.escrow.permit, m.escrow.openErr = nil, meter.ErrLedgerUnreachable
	m.escrow.mu.Unlock()
	if down, _, err := m.fetch(ctx, 0); err == nil {
		t.Errorf("%d bytes without a channel", down)
	}
}

// paidAgainstFree measures a transfer with and without a price, in turns, in one run.
func BenchmarkPaidThroughput(b *testing.B) {
	free := openMetered(b, voucher.Price{}, true)
	paid := openMetered(b, voucher.Price{PerGiB: 1_000_000}, true)
	const size = 256 << 20
	free.serve(size)
	paid.serve(size)
	var ratios []float64
	for b.Loop() {
		var took [2]time.Duration
		for i, m := range []*meteredNodes{free, paid} {
			begun := time.Now()
			if down, _, err := m.fetch(b.Context(), 0); err != nil || down != size {
				b.Fatal(down, err)
			}
			took[i] = time.Since(begun)
		}
		ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "paid/free")
	b.ReportMetric(float64(paid.earns.Metrics().Pauses)/float64(b.N), "pauses/op")
}

// BenchmarkMeteredSessions opens, uses and closes free sessions, with and without a
// meter.
func BenchmarkMeteredSessions(b *testing.B) {
	for _, metered := range []bool{false, true} {
		b.Run(fmt.Sprintf("meter=%t", metered), func(b *testing.B) {
			m := openMetered(b, voucher.Price{}, metered)
			m.provider.Handle(m.service, func(_ context.Context, in *sal.Incoming) {
				if c, err := in.Accept(); err == nil {
					_, _ = io.Copy(c, c)
					c.Close()
				}
			})
			b.ReportAllocs()
			b.SetParallelism(16 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 64)
				for pb.Next() {
					c, err := m.client.Dial(b.Context(), m.service, 80)
					if err != nil {
						b.Error(err)
						return
					}
					exchange(b, c, buf)
					c.Close()
				}
			})
		})
	}
}

func exchange(b *testing.B, c net.Conn, buf []byte) {
	if _, err := c.Write(buf); err != nil {
		b.Error(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		b.Error(err)
	}
}
