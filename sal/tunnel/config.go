package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	// MaxDatagram is the largest datagram carried, in bytes: more than any packet
	// of a path of 1,500 bytes, which is what paths of this kind are.
	MaxDatagram = 2048
	// Path is where the server answers; every other is "404 not found".
	Path = "/scn/tunnel"
	// subprotocol names what the messages are; a new version gets a new name.
	subprotocol = "scn.datagram.1"
	// DefaultPort is the TCP port relays listen on, the one HTTPS made passable
	// nearly everywhere.
	DefaultPort = 443
)

// ServerConfig configures a Server. Listen and Target are required.
type ServerConfig struct {
	// Listen is the TCP address, such as ":443".
	Listen string
	// Target is the UDP port of the node, on an address of this host.
	Target netip.AddrPort
	// MaxConns bounds the TCP connections, tunnels and others together. Default
	// 1024: some 100 KiB each when busy.
	MaxConns int
	// MaxConnsPerSource bounds those of one IPv4 address or IPv6 /64. Default 64:
	// an office behind one address.
	MaxConnsPerSource int
	// IdleTimeout closes a tunnel that carried no datagram. Default 2m: a node
	// that is registered at a relay says something every 25 s.
	IdleTimeout time.Duration
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	timing timing
}

// Validate reports every fault of the configuration.
func (c ServerConfig) Validate() error {
	var errs []error
	if c.Listen == "" {
		errs = append(errs, errors.New("tunnel: no address to listen on"))
	}
	if !c.Target.IsValid() || c.Target.Port() == 0 || c.Target.Addr().IsUnspecified() {
		errs = append(errs, fmt.Errorf("tunnel: target %s is no UDP port", c.Target))
	}
	if c.MaxConns < 0 || c.MaxConnsPerSource < 0 || c.IdleTimeout < 0 {
		errs = append(errs, errors.New("tunnel: a bound is negative"))
	}
	return errors.Join(errs...)
}

func (c ServerConfig) withDefaults() ServerConfig {
	set(&c.MaxConns, 1024)
	set(&c.MaxConnsPerSource, 64)
	set(&c.IdleTimeout, 2*time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.timing = c.timing.withDefaults()
	return c
}

// ClientConfig configures a Client. Servers and Node are required.
type ClientConfig struct {
	// Servers are the TCP addresses of one relay. The first to answer is used.
	Servers []netip.AddrPort
	// Node is this node's own UDP port, on an address of this host: nobody else's
	// datagrams are carried.
	Node netip.AddrPort
	// Proxy tells the HTTP proxy a connection is to be made through, nil for none.
	// Default: http.ProxyFromEnvironment (HTTPS_PROXY, NO_PROXY).
	Proxy func(*http.Request) (*url.URL, error)
	// Connected is called after each connection that was made, from a goroutine of
	// Run; it must return soon. Default: nobody is told.
	Connected func()
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger

	timing timing
}

// Validate reports every fault of the configuration.
func (c ClientConfig) Validate() error {
	var errs []error
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("tunnel: no server"))
	}
	for _, a := range c.Servers {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() {
			errs = append(errs, fmt.Errorf("tunnel: server %s is no TCP port", a))
		}
	}
	if !c.Node.IsValid() || c.Node.Port() == 0 || c.Node.Addr().IsUnspecified() {
		errs = append(errs, fmt.Errorf("tunnel: node %s is no UDP port", c.Node))
	}
	return errors.Join(errs...)
}

func (c ClientConfig) withDefaults() ClientConfig {
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	if c.Connected == nil {
		c.Connected = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.timing = c.timing.withDefaults()
	return c
}

// timing is what tests shorten.
type timing struct {
	// ping is how often each end asks the other for a sign of life, and silence
	// how long none may come. A proxy that forgot the connection is noticed by
	// that; a host that is gone, earlier by TCP.
	ping, silence time.Duration
	// write bounds one write: the other end takes nothing any more.
	write time.Duration
	// dial bounds the making of one connection, proxy and TLS included, and
	// stagger is what one address has before the next is tried beside it.
	dial, stagger time.Duration
	// retry and longest are the pauses between attempts.
	retry, longest time.Duration
}

func (t timing) withDefaults() timing {
	set(&t.ping, 12*time.Second)
	set(&t.silence, 30*time.Second)
	set(&t.write, 10*time.Second)
	set(&t.dial, 8*time.Second)
	set(&t.stagger, 300*time.Millisecond)
	set(&t.retry, 250*time.Millisecond)
	set(&t.longest, 30*time.Second)
	return t
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
