package portmap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// maxGateways is how many routers are asked.
const maxGateways = 2

// routesFile is the kernel's IPv4 routing table of this network namespace.
const routesFile = "/proc/net/route"

// defaultGateways reads the routers of the default routes from the kernel.
func defaultGateways() ([]netip.Addr, error) {
	b, err := os.ReadFile(routesFile)
	if err != nil {
		return nil, fmt.Errorf("portmap: %w", err)
	}
	return parseRoutes(b), nil
}

// parseRoutes returns the gateways of the default routes in the kernel's table,
// lowest metric first. Lines it does not understand are passed over.
func parseRoutes(table []byte) []netip.Addr {
	type hop struct {
		gateway netip.Addr
		metric  int
	}
	var hops []hop
	for line := range bytes.Lines(table) {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …
		f := bytes.Fields(line)
		if len(f) < 8 || string(f[1]) != "00000000" || string(f[7]) != "00000000" {
			continue
		}
		raw, err := hex.DecodeString(string(f[2]))
		metric, metricErr := strconv.Atoi(string(f[6]))
		if err != nil || metricErr != nil || len(raw) != 4 {
			continue
		}
		// The kernel prints the address as a number of this host's byte order.
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
		if a := netip.AddrFrom4(ip); !a.IsUnspecified() {
			hops = append(hops, hop{a, metric})
		}
	}
	slices.SortStableFunc(hops, func(a, b hop) int { return a.metric - b.metric })
	var out []netip.Addr
	for _, h := range hops {
		if !slices.Contains(out, h.gateway) {
			out = append(out, h.gateway)
		}
	}
	return out
}

// localFor returns the address of this host from which a gateway is reached. It
// sends nothing.
func localFor(gateway netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, pcpPort)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// dialable reports whether hosts elsewhere could reach an address.
func dialable(a netip.Addr) bool {
	return a.IsValid() && a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT.Contains(a)
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
