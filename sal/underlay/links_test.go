package underlay

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLocatorsFollowTheHost(t *testing.T) {
	h, other := newHost(t), newHost(t)
	cable(h, "eth0", other, "eth0")
	cable(h, "docker0", other, "eth1")
	var mu sync.Mutex
	var last []netip.AddrPort
	calls := 0
	var s *Socket
	h.do(func() (err error) {
		s, err = Open(Config{
			Advertise: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:4242")},
			LocatorsChanged: func(l []netip.AddrPort) {
				mu.Lock()
				defer mu.Unlock()
				last, calls = l, calls+1
			},
		})
		return err
	})
	defer s.Close()
	expect := func(what string, ips ...string) {
		t.Helper()
		want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:4242")}
		for _, ip := range ips {
			want = append(want, locator(ip, s.Port()))
		}
		start := time.Now()
		eventually(t, fmt.Sprintf("%s: %v", what, want), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(last, want)
		})
		t.Logf("%-24s after %v", what, time.Since(start).Round(10*time.Microsecond))
	}
	expect("no address")
	h.add("eth0", "10.0.0.1/24")
	expect("one address", "10.0.0.1")
	h.add("docker0", "172.17.0.1/16")
	h.add("lo", "10.99.0.1/32")
	h.add("eth0", "fd00::1/64")
	expect("ignored ones", "10.0.0.1", "fd00::1")
	deprecated := addrOf("fd00::2/64")
	deprecated.PreferedLft, deprecated.ValidLft = 0, 1000
	h.must(h.nl.AddrAdd(h.link("eth0"), deprecated))
	h.add("eth0", "10.0.0.2/24")
	expect("deprecated one", "10.0.0.1", "10.0.0.2", "fd00::1")
	h.del("eth0", "10.0.0.1/24")
	// The kernel removes a secondary address with its first, if so configured.
	_ = h.nl.AddrDel(h.link("eth0"), addrOf("10.0.0.2/24"))
	expect("removed", "fd00::1")
	h.down("eth0")
	expect("interface down")
	h.up("eth0")
	h.add("eth0", "10.0.0.3/24")
	eventually(t, "interface up again", func() bool { return slices.Contains(s.Locators(), locator("10.0.0.3", s.Port())) })
	other.down("eth0") // the carrier
	eventually(t, "carrier lost", func() bool { return !slices.Contains(s.Locators(), locator("10.0.0.3", s.Port())) })
}

// TestReturnedAddress: networks are alike, and a host that is carried from one to
// another may have the same address there before anybody looks.
func TestReturnedAddress(t *testing.T) {
	h := newHost(t)
	cable(h, "eth0", newHost(t), "eth0")
	h.add("eth0", "10.0.0.1/24")
	var again atomic.Int64
	w := &watcher{ignore: IgnoreVirtual, policy: func(string) (p LinkPolicy) { return p }, metrics: &counters{}, changed: func(_ *hostLinks, a bool) {
		if a { // there is no default route that could change
			again.Add(1)
		}
	}}
	h.do(w.open)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		w.close()
		wg.Wait()
	}()
	wg.Go(func() { w.run(ctx) })
	wg.Go(func() { w.listen(ctx) })
	h.add("eth0", "10.0.0.2/24")
	h.del("eth0", "10.0.0.2/24")
	time.Sleep(20 * time.Millisecond)
	if n := again.Load(); n != 0 {
		t.Errorf("an address that came and went is told as a return %d times", n)
	}
	// A reading may come between the two, and then sees both.
	eventually(t, "returned", func() bool {
		h.del("eth0", "10.0.0.1/24")
		h.add("eth0", "10.0.0.1/24")
		time.Sleep(5 * time.Millisecond)
		return again.Load() > 0
	})
}

func TestWatcherRecovers(t *testing.T) {
	h := newHost(t)
	cable(h, "eth0", newHost(t), "eth0")
	var s *Socket
	h.do(func() (err error) { s, err = Open(Config{}); return err })
	defer s.Close()
	// The subscription breaks, as it does when the kernel drops it.
	s.watch.events.Close()
	eventually(t, "broken subscription noticed", func() bool { return s.Metrics().WatchErrors > 0 })
	h.add("eth0", "10.0.0.1/24")
	eventually(t, "address seen", func() bool { return len(s.Locators()) == 1 })
	h.add("eth0", "10.0.0.2/24")
	eventually(t, "address seen by the new subscription", func() bool { return len(s.Locators()) == 2 })
	// A flood of notifications.
	for i := range 2000 {
		a := fmt.Sprintf("10.1.%d.%d/32", i/250, i%250+1)
		h.add("eth0", a)
		h.del("eth0", a)
	}
	h.add("eth0", "10.0.0.3/24")
	eventually(t, "address seen after the flood", func() bool { return len(s.Locators()) == 3 })
	t.Logf("%d refreshes, %d errors", s.Metrics().Refreshes, s.Metrics().WatchErrors)
}
