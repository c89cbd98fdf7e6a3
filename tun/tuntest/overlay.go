// Package tuntest is an overlay without a network, and a network namespace, for tests
// of the edge and of what stands on it.
//
// An [Overlay] sends each port of a service to a socket of this host, fails as told,
// and counts. [Main] runs a package's tests in a network namespace of their own.
package tuntest

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"scn.alt/scn/routing/identity"
)

// Overlay implements tun.Overlay over sockets of this host. The zero value knows no
// service. Its fields are set before use; its methods may be called concurrently.
type Overlay struct {
	// Opaque hides that streams are TCP connections, as those of a real overlay are not,
	// and gives packet flows TryWrite.
	Opaque bool
	// Delay is how long Dial, DialPacket and Ping take.
	Delay time.Duration

	mu     sync.Mutex // guards below
	routes map[route]string
	errs   map[route]error
	known  map[identity.ServiceID]bool
	dials  int
	gate   chan struct{}
}

type route struct {
	service identity.ServiceID
	network string
	port    uint16
}

// Serve sends a port of the service to the address; network is "tcp" or "udp".
func (o *Overlay) Serve(service identity.ServiceID, network string, port uint16, address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.routes == nil {
		o.routes = make(map[route]string)
		o.known = make(map[identity.ServiceID]bool)
	}
	o.routes[route{service, network, port}] = address
	o.known[service] = true
}

// Fail makes dials of the port fail with err, until it is nil.
func (o *Overlay) Fail(service identity.ServiceID, network string, port uint16, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.errs == nil {
		o.errs = make(map[route]error)
	}
	o.errs[route{service, network, port}] = err
}

// Hold lets every dial wait until the returned function is called.
func (o *Overlay) Hold() (release func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	gate := make(chan struct{})
	o.gate = gate
	return sync.OnceFunc(func() {
		o.mu.Lock()
		o.gate = nil
		o.mu.Unlock()
		close(gate)
	})
}

// Dials returns how many dials there were.
func (o *Overlay) Dials() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dials
}

// Dial implements tun.Overlay.
func (o *Overlay) Dial(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error) {
	c, err := o.dial(ctx, "tcp", service, port)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok && o.Opaque {
		return opaque{Conn: t, tcp: t}, nil
	}
	return c, nil
}

// DialPacket implements tun.Overlay.
func (o *Overlay) DialPacket(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error) {
	c, err := o.dial(ctx, "udp", service, port)
	if err == nil && o.Opaque {
		return direct{c}, nil
	}
	return c, err
}

// Ping implements tun.Overlay: a known service answers after Delay.
func (o *Overlay) Ping(ctx context.Context, service identity.ServiceID) (time.Duration, error) {
	start := time.Now()
	if err := o.wait(ctx); err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known[service] {
		return 0, syscall.EHOSTUNREACH
	}
	return time.Since(start), nil
}

func (o *Overlay) dial(ctx context.Context, network string, service identity.ServiceID, port uint16) (net.Conn, error) {
	key := route{service, network, port}
	o.mu.Lock()
	o.dials++
	err, address, known := o.errs[key], o.routes[key], o.known[service]
	o.mu.Unlock()
	if werr := o.wait(ctx); werr != nil {
		return nil, werr
	}
	switch {
	case err != nil:
		return nil, err
	case !known:
		return nil, syscall.EHOSTUNREACH
	case address == "":
		return nil, syscall.ECONNREFUSED
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (o *Overlay) wait(ctx context.Context) error {
	o.mu.Lock()
	gate := o.gate
	o.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if o.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(o.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// opaque is a stream with half-close and reset that is no *net.TCPConn.
type opaque struct {
	net.Conn
	tcp *net.TCPConn
}

func (c opaque) CloseWrite() error           { return c.tcp.CloseWrite() }
func (c opaque) SetLinger(seconds int) error { return c.tcp.SetLinger(seconds) }

// direct is a packet flow that can be written to without waiting: a UDP socket's send
// buffer is never full for long.
type direct struct{ net.Conn }

func (c direct) TryWrite(p []byte) error {
	_, err := c.Write(p)
	return err
}
