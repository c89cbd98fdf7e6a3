package target

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
)

// TLV types of the PROXY header, from the range for custom use (PROXY protocol §2.2.8).
const (
	// TLVNode is the caller's node ID in text form.
	TLVNode = 0xe0
	// TLVService is the service ID that was called, in text form.
	TLVService = 0xe1
)

// writeProxyHeader tells the target who called (PROXY protocol v2). The caller's port
// does not exist; it is 0.
func writeProxyHeader(ctx context.Context, up net.Conn, network identity.NetworkID, in Incoming) error {
	src, dst := netip.IPv4Unspecified(), netip.IPv4Unspecified()
	transport := proxyproto.TCPv4
	if !network.IsZero() {
		src = address.IPv6(network, identity.ServiceOf(in.Peer))
		dst = address.IPv6(network, in.Service)
		transport = proxyproto.TCPv6
	}
	h := proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: transport,
		SourceAddr:      net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0)),
		DestinationAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(dst, in.Port)),
	}
	if err := h.SetTLVs([]proxyproto.TLV{
		{Type: TLVNode, Value: []byte(in.Peer.String())},
		{Type: TLVService, Value: []byte(in.Service.String())},
	}); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := up.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := h.WriteTo(up); err != nil {
		return err
	}
	return up.SetWriteDeadline(time.Time{})
}
