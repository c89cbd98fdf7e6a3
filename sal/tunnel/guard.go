package tunnel

import (
	"net"
	"net/netip"
	"sync"
)

// guard is a listener that bounds its connections, in all and by source, before
// a byte of them is read.
type guard struct {
	net.Listener
	most, mostPerSource int
	counters            *counters

	mu      sync.Mutex // guards below
	conns   int
	sources map[netip.Prefix]int
}

// Accept implements net.Listener.
func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr())
		if !g.enter(source) {
			g.counters.refusedConns.Add(1)
			_ = c.Close()
			continue
		}
		return &guarded{Conn: c, leave: func() { g.leave(source) }}, nil
	}
}

func (g *guard) enter(source netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns >= g.most || g.sources[source] >= g.mostPerSource {
		return false
	}
	g.conns++
	g.sources[source]++
	return true
}

func (g *guard) leave(source netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns--
	if g.sources[source]--; g.sources[source] == 0 {
		delete(g.sources, source)
	}
}

func (g *guard) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns
}

// guarded is a connection that counts until it is closed.
type guarded struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *guarded) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// sourceOf is who is counted together: one IPv4 address, or one IPv6 /64, which
// is what one host has at its will.
func sourceOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}
