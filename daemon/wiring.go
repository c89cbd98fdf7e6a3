package daemon

import (
	"context"
	"net"
	"time"

	"scn.alt/scn/naming"
	"scn.alt/scn/routing"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
	"scn.alt/scn/tun"
)

// What each layer states it needs, and who gives it. The compiler proves each match.
var (
	_ sal.Resolver     = (*routing.Router)(nil)
	_ naming.Addresses = (*tun.Edge)(nil)
	_ tun.Overlay      = overlay{}
	_ tun.EarlyDialer  = overlay{}
)

// overlay gives the edge the sessions of sal.
type overlay struct{ *sal.Node }

// Dial implements tun.Overlay.
func (o overlay) Dial(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error) {
	return connOf(o.Node.Dial(ctx, service, port))
}

// DialEarly implements tun.EarlyDialer.
func (o overlay) DialEarly(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error) {
	return connOf(o.Node.DialEarly(ctx, service, port))
}

// DialPacket implements tun.Overlay.
func (o overlay) DialPacket(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error) {
	return connOf(o.Node.DialPacket(ctx, service, port))
}

// Ping implements tun.Overlay.
func (o overlay) Ping(ctx context.Context, service identity.ServiceID) (time.Duration, error) {
	rtt, _, err := o.Node.Ping(ctx, service)
	return rtt, err
}

// connOf keeps a nil pointer from becoming a connection that is not nil.
func connOf[C net.Conn](c C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
