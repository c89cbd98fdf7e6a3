//go:build !linux

package naming

import (
	"errors"
	"net"
	"net/netip"
)

var errArrival = errors.New("this system does not tell where packets arrive; AnyInterface has to be set")

func (a *arrivals) preparePackets(net.PacketConn) error {
	if a.any {
		return nil
	}
	return errArrival
}

func (a *arrivals) prepareStreams(net.Listener) error {
	if a.any {
		return nil
	}
	return errArrival
}

func (a *arrivals) allowedStream(net.Conn) bool { return a.any }

func arrival([]byte) (int, netip.Addr) { return 0, netip.Addr{} }

func appendSource(b []byte, _ netip.Addr, _ int) []byte { return b }
