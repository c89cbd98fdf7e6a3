package underlay

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// TestAnotherRouterOfTheSameAddress has a host with IPv6 alone carried to another
// network that numbers its router as the one before, without losing its carrier.
func TestAnotherRouterOfTheSameAddress(t *testing.T) {
	w := newWorld6(t)
	w.left.add("eth0", "fd00:1:0::2/64")
	w.left.gateway("eth0", "fd00:1:0::1")
	w.echo.resumed(t, time.Now())
	time.Sleep(300 * time.Millisecond)
	w.left.del("eth0", "fd00:1:0::2/64")
	w.router.must(w.router.nl.LinkSetHardwareAddr(w.router.link("side1eth0"), net.HardwareAddr{2, 1, 2, 3, 4, 5}))
	w.left.add("eth0", "fd00:1:0::77/64")
	w.left.gateway("eth0", "fd00:1:0::1")
	gap := w.echo.resumed(t, time.Now())
	t.Logf("resumed after %v", gap)
	if gap > 3*time.Second {
		t.Errorf("resumed after %v: packets went to the router of before", gap)
	}
}

// TestNewAddressBehindAKnownRouter has a host with IPv6 alone take another address
// behind the same router. Its first packet leaves before it hears the router asking
// who has that address; the router asks again a second later, unless it was told.
func TestNewAddressBehindAKnownRouter(t *testing.T) {
	w := newWorld6(t)
	address := func(n int) string { return fmt.Sprintf("fd00:1:0::%x/64", 0x10+n) }
	var gaps []time.Duration
	for n := range 13 {
		if n > 0 {
			w.left.del("eth0", address(n-1))
		}
		w.left.add("eth0", address(n))
		w.left.gateway("eth0", "fd00:1:0::1")
		gap := w.echo.resumed(t, time.Now())
		if n > 0 {
			gaps = append(gaps, gap)
		}
		time.Sleep(150 * time.Millisecond)
	}
	slices.Sort(gaps)
	t.Logf("resumed after %v", gaps)
	if gap := gaps[len(gaps)*3/4]; gap > 700*time.Millisecond {
		t.Errorf("a quarter after %v or more", gap)
	}
}

// newWorld6 is newWorld with IPv6 on the right and no address on the left.
func newWorld6(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.right.add("eth0", at6(2, 0)+"/64")
	w.right.gateway("eth0", "fd00:2:0::1")
	eventually(t, "server's IPv6 address seen", func() bool { return len(w.server.Locators()) == 2 })
	time.Sleep(300 * time.Millisecond)
	w.left.leave("eth0", 1, 0)
	return w
}
