package relay

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
)

func nodeID(n int) (id identity.NodeID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

func tokenOf(n int) (t Token) {
	binary.BigEndian.PutUint32(t[:], uint32(n)+1)
	return t
}

func newTable(t testing.TB, l Limits) *Table[int] {
	t.Helper()
	table, err := NewTable[int](l)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// register registers n nodes, whose peers are their numbers.
func register(t testing.TB, table *Table[int], n int) []*Registration[int] {
	t.Helper()
	var all []*Registration[int]
	for i := range n {
		if err := table.Register(nodeID(i), tokenOf(i), i); err != nil {
			t.Fatal(err)
		}
		all = append(all, table.Sender(tokenOf(i), 1))
	}
	return all
}

func TestRouting(t *testing.T) {
	table := newTable(t, Limits{})
	r := register(t, table, 3)
	if got, v := table.Route(1, r[0], r[2].Prefix(), 1, 100); v != Forward || got != r[2] || got.Peer != 2 {
		t.Errorf("got %+v, %d", got, v)
	}
	if _, v := table.Route(1, r[0], Prefix{9, 9}, 3, 100); v != Unknown {
		t.Errorf("to nobody: %d", v)
	}
	if got, v := table.Route(1, r[0], r[0].Prefix(), 1, 100); v != Forward || got != r[0] {
		t.Errorf("to itself, as a probe of the relay: %d", v)
	}
	if table.Sender(Token{0xff}, 5) != nil {
		t.Error("a token never given out is known")
	}
	if m := table.Metrics(); m.DroppedUnknown != 3 || m.DroppedStranger != 5 || m.Registrations != 3 {
		t.Errorf("%+v", m)
	}
}

func TestRegistrations(t *testing.T) {
	table := newTable(t, Limits{Registrations: 2})
	r := register(t, table, 2)
	if err := table.Register(nodeID(2), tokenOf(2), 2); !errors.Is(err, ErrFull) {
		t.Errorf("a third: %v", err)
	}
	// A node whose ID begins alike does not take the place of another.
	alike := nodeID(0)
	alike[31] = 1
	if err := table.Register(alike, tokenOf(3), 3); !errors.Is(err, ErrTaken) {
		t.Errorf("alike: %v", err)
	}
	if err := table.Register(nodeID(0), tokenOf(1), 3); !errors.Is(err, ErrTaken) {
		t.Errorf("token of another: %v", err)
	}
	// A node that registers again keeps one registration, also when full.
	if err := table.Register(nodeID(0), tokenOf(9), 10); err != nil {
		t.Fatal(err)
	}
	if table.Sender(tokenOf(0), 1) != nil || table.Sender(tokenOf(9), 1).Peer != 10 {
		t.Error("the old token holds")
	}
	if table.Revoke(nodeID(0), 0) || table.Revoke(alike, 10) {
		t.Error("revoked for somebody else")
	}
	if !table.Revoke(nodeID(0), 10) || table.Revoke(nodeID(0), 10) || table.Len() != 1 {
		t.Error("not revoked once")
	}
	if _, v := table.Route(1, r[1], nodePrefix(nodeID(0)), 1, 1); v != Unknown {
		t.Errorf("to one revoked: %d", v)
	}
	if table.Sender(tokenOf(9), 1) != nil {
		t.Error("a revoked token holds")
	}
}

func nodePrefix(id identity.NodeID) Prefix { return Prefix(id[:8]) }

func TestQuotas(t *testing.T) {
	table := newTable(t, Limits{PerNode: 1_000_000, Total: 1_500_000})
	r := register(t, table, 3)
	// send returns how many bytes of a second's attempts at 10 MB/s got through.
	send := func(now *time.Duration, senders ...*Registration[int]) (bytes [3]int) {
		for range 1000 {
			*now += time.Millisecond
			for _, s := range senders {
				if _, v := table.Route(*now, s, r[(s.Peer+1)%3].Prefix(), 7, 10_000); v == Forward {
					bytes[s.Peer] += 10_000
				}
			}
		}
		return bytes
	}
	now := time.Second
	first := send(&now, r[0])
	if got := first[0]; got < 1_900_000 || got > 2_020_000 {
		t.Errorf("a burst and a second of 1 MB/s: %d bytes", got)
	}
	if got := send(&now, r[0])[0]; got < 980_000 || got > 1_020_000 {
		t.Errorf("a second of 1 MB/s: %d bytes", got)
	}
	now += time.Hour
	// One that sends too much takes nothing from another below the total.
	now = now.Round(time.Second)
	send(&now, r[0])
	if m := table.Metrics(); m.DroppedOverNode == 0 || m.DroppedOverTotal != 0 {
		t.Errorf("%+v", m)
	}
	send(&now, r...)
	both := send(&now, r...)
	if got := both[0] + both[1] + both[2]; got < 1_450_000 || got > 1_550_000 {
		t.Errorf("a second of 1.5 MB/s in all: %d bytes", got)
	}
	if m := table.Metrics(); m.DroppedOverTotal == 0 {
		t.Errorf("%+v", m)
	}
	// Registering again is no way round the quota.
	if err := table.Register(nodeID(0), tokenOf(50), 0); err != nil {
		t.Fatal(err)
	}
	again := table.Sender(tokenOf(50), 1)
	if got := send(&now, again)[0]; got > 1_100_000 {
		t.Errorf("registered anew, %d bytes in a second", got)
	}
}

func TestUnknownIsToldOnce(t *testing.T) {
	table := newTable(t, Limits{})
	r := register(t, table, 2)
	now := time.Second
	to := func(i int) Prefix { return nodePrefix(nodeID(100 + i)) }
	if !table.Tell(now, r[0], to(0)) || table.Tell(now+time.Second, r[0], to(0)) {
		t.Error("not told once")
	}
	if !table.Tell(now, r[1], to(0)) {
		t.Error("another sender was not told")
	}
	if !table.Tell(now+UnknownInterval, r[0], to(0)) {
		t.Error("not told again after a minute")
	}
	told := 0
	for i := range 1000 {
		if table.Tell(now+UnknownInterval, r[0], to(i)) {
			told++
		}
	}
	if told != MaxUnknown-1 {
		t.Errorf("told of %d destinations at once", told+1)
	}
}

func TestTableConcurrently(t *testing.T) {
	table := newTable(t, Limits{Registrations: 100})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 500 {
				n := i*1000 + j%20
				if err := table.Register(nodeID(n), tokenOf(i*1000+j), n); err != nil {
					t.Errorf("register: %v", err)
					return
				}
				if s := table.Sender(tokenOf(i*1000+j), 1); s != nil {
					table.Route(time.Duration(j+1), s, nodePrefix(nodeID(n+1)), 1, 100)
					table.Tell(time.Duration(j+1), s, Prefix{byte(j)})
				}
				table.Metrics()
				if j%20 == 19 {
					table.Revoke(nodeID(n), n)
				}
			}
		})
	}
	wg.Wait()
	if got := table.Len(); got != 4*19 {
		t.Errorf("%d registered", got)
	}
}

func TestRoutingAllocatesNothing(t *testing.T) {
	table := newTable(t, Limits{})
	r := register(t, table, 100)
	now := time.Second
	if n := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		s := table.Sender(r[7].Token, 1)
		if _, v := table.Route(now, s, r[9].Prefix(), 14, 20_000); v != Forward {
			t.Fatal(v)
		}
		table.Sent(14, 20_000)
		table.Sender(Token{1, 1}, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLimitsValidateReportsEverything(t *testing.T) {
	err := Limits{Registrations: -1, PerNode: 1, Total: -5}.Validate()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v", err)
	}
	if _, err := NewTable[int](Limits{Registrations: maxRegistrations + 1}); err == nil {
		t.Error("too many registrations were accepted")
	}
	if l := newTable(t, Limits{}).Limits(); l.Registrations != 10_000 || l.PerNode != 50e6 || l.Total != 500e6 {
		t.Errorf("defaults %+v", l)
	}
}

func BenchmarkRoute(b *testing.B) {
	table := newTable(b, Limits{Registrations: 10_000})
	r := register(b, table, 10_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % len(r)
		s := table.Sender(r[i].Token, 1)
		table.Route(time.Duration(1<<50), s, r[(i*31)%len(r)].Prefix(), 1, 1)
	}
}
