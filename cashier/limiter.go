package cashier

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxPeers is how many peers a limiter remembers at least, and half of how many
// at most.
const maxPeers = 4096

// limiter holds back peers that ask too often. Its memory is bounded: two
// generations, of which the older is forgotten when the younger is full.
type limiter struct {
	requests, submits rate.Limit
	burst             [2]int

	mu         sync.Mutex
	young, old map[string]*peerLimits // guarded by mu
}

type peerLimits struct {
	requests, submits *rate.Limiter
	conns             int // guarded by limiter.mu
}

func newLimiter(requests float64, requestBurst int, submits float64, submitBurst int) *limiter {
	return &limiter{
		requests: rate.Limit(requests), submits: rate.Limit(submits), burst: [2]int{requestBurst, submitBurst},
		young: map[string]*peerLimits{},
	}
}

// allow takes one request, and one submission if submit is set, from the peer's
// allowance. It reports false when there is none left.
func (l *limiter) allow(peer string, submit bool, now time.Time) bool {
	l.mu.Lock()
	p := l.peerLocked(peer)
	l.mu.Unlock()
	if !p.requests.AllowN(now, 1) {
		return false
	}
	return !submit || p.submits.AllowN(now, 1)
}

// connect counts a connection of the peer, unless it has most already.
func (l *limiter) connect(peer string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peerLocked(peer)
	if p.conns >= most {
		return false
	}
	p.conns++
	return true
}

func (l *limiter) disconnect(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.peerLocked(peer); p.conns > 0 {
		p.conns--
	}
}

func (l *limiter) peerLocked(peer string) *peerLimits {
	if p, ok := l.young[peer]; ok {
		return p
	}
	p, ok := l.old[peer]
	if !ok {
		p = &peerLimits{
			requests: rate.NewLimiter(l.requests, l.burst[0]),
			submits:  rate.NewLimiter(l.submits, l.burst[1]),
		}
	}
	if len(l.young) >= maxPeers {
		l.old, l.young = l.young, make(map[string]*peerLimits, maxPeers)
	}
	l.young[peer] = p
	return p
}

// peerName names the peer of a connection for its limits: the IP address, of IPv6
// the /64 network, or whatever comes before the port of another kind of address.
func peerName(a net.Addr) string {
	if a == nil {
		return ""
	}
	s := a.String()
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		host = s
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// prefixOf returns the part of the Internet an address is in: an IPv4 /24 or an IPv6
// /48, as they are given out; empty for what is no IP address.
func prefixOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	return PrefixOf(at.Addr())
}

// PrefixOf is what a server's Prefix returns for a peer at an IP address.
func PrefixOf(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	bits := 24
	if ip.Is6() {
		bits = 48
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
