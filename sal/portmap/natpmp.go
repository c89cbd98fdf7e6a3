package portmap

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
)

// natPMP speaks NAT-PMP with one gateway.
type natPMP struct{ client *natpmp.Client }

func newNATPMP(gateway netip.Addr, patience time.Duration) *natPMP {
	// The library knows no context: a call lasts so long at most.
	return &natPMP{natpmp.NewClientWithTimeout(net.IP(gateway.AsSlice()), patience/2)}
}

func (n *natPMP) name() string { return "nat-pmp" }

// add implements protocol.
func (n *natPMP) add(ctx context.Context, internal, external uint16, life time.Duration) (netip.AddrPort, time.Duration, error) {
	where, err := n.client.GetExternalAddress()
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("portmap: nat-pmp: %w", err)
	}
	if ctx.Err() != nil {
		return netip.AddrPort{}, 0, ctx.Err()
	}
	m, err := n.client.AddPortMapping("udp", int(internal), int(external), int(life/time.Second))
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("portmap: nat-pmp: %w", err)
	}
	if m.InternalPort != internal {
		return netip.AddrPort{}, 0, errMalformed
	}
	return netip.AddrPortFrom(netip.AddrFrom4(where.ExternalIPAddress), m.MappedExternalPort),
		time.Duration(m.PortMappingLifetimeInSeconds) * time.Second, nil
}

// remove implements protocol.
func (n *natPMP) remove(_ context.Context, internal, _ uint16) error {
	_, err := n.client.AddPortMapping("udp", int(internal), 0, 0)
	return err
}
