package tun

import (
	"net/netip"
	"sync"
	"time"
)

// localAddresses tells packets of this host from forwarded ones. It reads the host's
// addresses again when it meets one it does not know, at most once a second.
type localAddresses struct {
	list func() ([]netip.Addr, error)

	mu    sync.Mutex // guards below
	known map[netip.Addr]struct{}
	read  time.Time
}

func (l *localAddresses) contains(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[a]; ok {
		return true
	}
	if now.Sub(l.read) < time.Second && !l.read.IsZero() {
		return false
	}
	l.read = now
	addrs, err := l.list()
	if err != nil {
		return false
	}
	l.known = make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		l.known[a] = struct{}{}
	}
	_, ok := l.known[a]
	return ok
}
