package underlay

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// twoLinks is a host with two ways to the world, each by a router of its own, and a
// peer behind both:
//
//	left ─ eth0 ── fixed ──┐
//	     └ wwan0 ─ mobile ─┴─ core ── right
type twoLinks struct {
	left, right, fixed, mobile, core *host
	client, server                   *peer
	c, s                             *session
	policies                         policyTable
}

// policyTable is a link policy that a test changes.
type policyTable struct {
	mu sync.Mutex
	of map[string]LinkPolicy
}

func (p *policyTable) get(name string) LinkPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

func newTwoLinks(t *testing.T, policies map[string]LinkPolicy, duplicate bool) *twoLinks {
	t.Helper()
	w := &twoLinks{
		left: newHost(t), right: newHost(t), fixed: newRouter(t), mobile: newRouter(t), core: newRouter(t),
		policies: policyTable{of: policies},
	}
	// The kernel's own IPv6 messages would be counted among the packets sent.
	w.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	attach(w.left, w.fixed, 1, "eth0")
	attach(w.left, w.mobile, 3, "wwan0")
	attach(w.right, w.core, 2, "eth0")
	for i, r := range []*host{w.fixed, w.mobile} {
		cable(r, "up", w.core, fmt.Sprintf("down%d", i))
		r.add("up", fmt.Sprintf("10.9.%d.1/24", i))
		w.core.add(fmt.Sprintf("down%d", i), fmt.Sprintf("10.9.%d.2/24", i))
		r.gateway("up", fmt.Sprintf("10.9.%d.2", i))
		w.core.via(fmt.Sprintf("10.%d.0.0/16", 1+2*i), fmt.Sprintf("10.9.%d.1", i))
	}
	w.right.join("eth0", 2, 0)
	w.left.add("eth0", at(1, 0)+"/24")
	w.left.add("wwan0", at(3, 0)+"/24")
	w.left.metric("eth0", "10.1.0.1", 100)
	w.left.metric("wwan0", "10.3.0.1", 700)
	w.server = w.right.peer('s', Config{}, true)
	w.client = w.left.peer('c', Config{LinkPolicy: w.policies.get, Duplicate: duplicate}, false)
	w.c, w.s = connect(t, w.client, w.server, locator(at(2, 0), w.server.Port()))
	t.Cleanup(func() { w.c.CloseWithError(0, ""); w.s.CloseWithError(0, "") })
	w.c.a.SetSessions(1)
	w.s.a.SetSessions(1)
	return w
}

// set changes the policy of an interface of the left host.
func (w *twoLinks) set(name string, p LinkPolicy) {
	w.policies.mu.Lock()
	w.policies.of[name] = p
	w.policies.mu.Unlock()
	w.client.SetLinkPolicy(w.policies.get)
}

// forward has a router carry packets or lose them all; the carrier stays up.
func (h *host) forward(on bool) {
	h.tb.Helper()
	h.sysctl("net/ipv4/ip_forward", map[bool]string{true: "1", false: "0"}[on])
}

func (h *host) via(prefix, gw string) {
	h.tb.Helper()
	_, dst, err := net.ParseCIDR(prefix)
	h.must(err)
	h.must(h.nl.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gw)}))
}

func (h *host) metric(name, gw string, priority int) {
	h.tb.Helper()
	h.must(h.nl.RouteAdd(&netlink.Route{
		LinkIndex: h.link(name).Attrs().Index, Gw: net.ParseIP(gw), Priority: priority,
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	}))
}

// sent is how many packets left an interface, by the kernel's count.
func (h *host) sent(name string) uint64 {
	h.tb.Helper()
	return h.link(name).Attrs().Statistics.TxPackets
}

// uses is the interface a session's data takes at the left host.
func (w *twoLinks) uses(t *testing.T) string {
	t.Helper()
	local := w.c.a.Info().Local.Addr()
	for name, ip := range map[string]string{"eth0": at(1, 0), "wwan0": at(3, 0)} {
		if local == netip.MustParseAddr(ip) {
			return name
		}
	}
	return local.String()
}

func (w *twoLinks) link(t *testing.T, name string) LinkInfo {
	t.Helper()
	links, err := w.client.Links()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(l LinkInfo) bool { return l.Interface == name })
	if i < 0 {
		t.Fatalf("no link %s among %+v", name, links)
	}
	return links[i]
}

// TestTwoDefaultRoutes has both links of a host work at the same moment, without any
// policy routing: packets are pinned to their interface.
func TestTwoDefaultRoutes(t *testing.T) {
	w := newTwoLinks(t, map[string]LinkPolicy{}, false)
	e := startEcho(t, w.c, w.s)
	eventually(t, "both links are proved", func() bool {
		return slices.IndexFunc([]string{"eth0", "wwan0"}, func(name string) bool {
			l := w.link(t, name)
			return l.State == LinkUnused || l.RTT == 0
		}) < 0
	})
	first := w.uses(t)
	other, router := "wwan0", w.fixed
	if first == "wwan0" {
		other, router = "eth0", w.mobile
	}
	for range 3 {
		cut := time.Now()
		router.forward(false)
		gap := e.resumed(t, cut.Add(50*time.Millisecond))
		t.Logf("%s falls silent: on %s after %v", first, w.uses(t), gap)
		if got := w.uses(t); got != other {
			t.Errorf("uses %s", got)
		}
		router.forward(true)
		first, other = other, first
		router = map[string]*host{"eth0": w.fixed, "wwan0": w.mobile}[first]
		eventually(t, "the other link is proved again", func() bool { return w.link(t, other).State == LinkStandby })
	}
	for _, name := range []string{"eth0", "wwan0"} {
		if l := w.link(t, name); l.BytesSent == 0 || l.BytesReceived == 0 {
			t.Errorf("%s carried %d and %d bytes", name, l.BytesSent, l.BytesReceived)
		}
	}
}

// TestOffCarriesNothing has a link that is off never send a packet: not for a handshake
// although the kernel would send it there, not while nothing else works, and not after
// it was turned off under a running session.
func TestOffCarriesNothing(t *testing.T) {
	// The kernel's own choice is eth0.
	w := newTwoLinks(t, map[string]LinkPolicy{"eth0": PolicyOff}, true)
	e := startEcho(t, w.c, w.s)
	e.resumed(t, time.Now())
	if got := w.uses(t); got != "wwan0" {
		t.Fatalf("uses %s", got)
	}
	if l := w.link(t, "eth0"); l.State != LinkUnused || l.Why != "its policy is off" || l.BytesSent != 0 {
		t.Errorf("eth0: %+v", l)
	}
	if slices.Contains(w.client.Locators(), locator(at(1, 0), w.client.Port())) {
		t.Errorf("tells %v", w.client.Locators())
	}
	before := w.left.sent("eth0")
	w.mobile.forward(false)
	time.Sleep(2 * time.Second)
	w.mobile.forward(true)
	e.resumed(t, time.Now())
	if n := w.left.sent("eth0"); n != before {
		t.Errorf("eth0 is off and sent %d packets", n-before)
	}

	w.set("eth0", PolicyNone)
	eventually(t, "eth0 is of use again", func() bool { return w.link(t, "eth0").State != LinkUnused })
	w.set("wwan0", PolicyOff)
	eventually(t, "wwan0 is left", func() bool { return w.uses(t) == "eth0" })
	e.resumed(t, time.Now())
	time.Sleep(100 * time.Millisecond)
	before = w.left.sent("wwan0")
	w.fixed.forward(false)
	time.Sleep(time.Second)
	w.fixed.forward(true)
	e.resumed(t, time.Now())
	if n := w.left.sent("wwan0"); n != before {
		t.Errorf("wwan0 is off and sent %d packets", n-before)
	}
}

// TestLocatorsByCost has the addresses of dearer links told last, and those of metered
// ones only where nothing cheaper leads to the world.
func TestLocatorsByCost(t *testing.T) {
	policies := policyTable{of: map[string]LinkPolicy{"eth0": PolicyBackup, "eth1": PolicyNone, "eth2": PolicyPrefer, "eth3": PolicyMetered}}
	h, other := newHost(t), newHost(t)
	for i := range 4 {
		cable(h, fmt.Sprintf("eth%d", i), other, fmt.Sprintf("eth%d", i))
		h.add(fmt.Sprintf("eth%d", i), fmt.Sprintf("10.0.%d.2/24", i))
	}
	h.metric("eth1", "10.0.1.1", 0)
	var s *Socket
	h.do(func() (err error) { s, err = Open(Config{LinkPolicy: policies.get}); return err })
	defer s.Close()
	ips := func() (out []string) {
		for _, l := range s.Locators() {
			out = append(out, l.Addr().String())
		}
		return out
	}
	if got, want := ips(), []string{"10.0.2.2", "10.0.1.2", "10.0.0.2"}; !slices.Equal(got, want) {
		t.Errorf("locators %v, want %v", got, want)
	}
	policies.mu.Lock()
	policies.of["eth1"] = PolicyOff
	policies.mu.Unlock()
	s.SetLinkPolicy(policies.get)
	want := []string{"10.0.2.2", "10.0.3.2", "10.0.0.2"} // no cheaper link has a default route
	eventually(t, "the metered link's address is told", func() bool { return slices.Equal(ips(), want) })
	other.down("eth2")
	eventually(t, "a link without carrier", func() bool {
		links, err := s.Links()
		i := slices.IndexFunc(links, func(l LinkInfo) bool { return l.Interface == "eth2" })
		return err == nil && i >= 0 && links[i].State == LinkUnused && links[i].Why == "it has no carrier"
	})
}

// FuzzParseLinkPolicy has what is read written as it was.
func FuzzParseLinkPolicy(f *testing.F) {
	for _, name := range []string{"none", "prefer", "metered", "backup", "off", "Backup", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := ParseLinkPolicy(name)
		if (err == nil) != slices.Contains(policyNames[:], name) || err == nil && p.String() != name {
			t.Errorf("%q: %v, %v", name, p, err)
		}
	})
}

func TestPacer(t *testing.T) {
	var p pacer
	passed := 0
	for now := range int64(1000) { // milliseconds; ten datagrams in each
		for range 10 {
			if p.take((now + 1) * int64(time.Millisecond)) {
				passed++
			}
		}
	}
	if passed < 200 || passed > 200+duplicateBurst {
		t.Errorf("%d of 10000 pass in a second", passed)
	}
}
