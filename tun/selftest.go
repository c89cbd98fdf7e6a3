package tun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/packet"
)

// selfTestPatience is how long SelfTest waits: two of the kernel's SYNs.
const selfTestPatience = 3 * time.Second

// SelfTest opens a TCP connection through the device to the edge itself, over IPv4 and
// IPv6, while Run runs. It returns ErrBlocked when nothing comes through, which is what
// a firewall of this host does that drops all that comes in by a device it does not
// know.
func (e *Edge) SelfTest(ctx context.Context) error {
	var errs []error
	for _, f := range []*family{e.family4, e.family6} {
		if f != nil {
			errs = append(errs, e.selfTest(ctx, f))
		}
	}
	return errors.Join(errs...)
}

func (e *Edge) selfTest(ctx context.Context, f *family) error {
	d := net.Dialer{Timeout: selfTestPatience}
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(f.probe, probePort).String())
	if err == nil {
		defer c.Close()
		if err = c.SetDeadline(time.Now().Add(selfTestPatience)); err == nil {
			_, err = io.ReadAll(c)
		}
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if e.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%w on %s: %w; allow it as \"ufw allow in on %s\", \"firewall-cmd --zone=trusted --add-interface=%s\" "+
		"or with nft \"iifname %s accept\" in the input chain", ErrBlocked, e.dev.name, err, e.dev.name, e.dev.name, e.dev.name)
}

// probe answers the SYN of a self-test: the flow is turned like any other, and ends as
// soon as our listener has it.
func (l *loop) probe(fam *family, b []byte, h *packet.Header) {
	e := l.edge
	f := e.tcp.add(e.ctx, fam, h, b, identity.ServiceID{}, netip.Addr{}, false)
	if f == nil {
		return
	}
	if !e.start(func() {
		defer e.finish(f)
		if c := e.await(f); c != nil {
			c.Close()
		}
	}) {
		e.finish(f)
		return
	}
	f.forward.Apply(b, h)
	l.write(b)
}
