package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// checkPorts finds out whether the UDP ports of sessions and DHT are free, by
// binding each for a moment.
func checkPorts(listen netip.AddrPort) error {
	var errs []error
	for i, use := range []string{"sessions", "the DHT"} {
		port := int(listen.Port()) + i
		if listen.Port() == 0 {
			break // the kernel will choose
		}
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: listen.Addr().AsSlice(), Port: port})
		if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) && listen.Addr().IsUnspecified() {
			c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("UDP port %d for %s: %w: stop who uses it, or set listen", port, use, err))
			continue
		}
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
