package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// openUDP makes the one socket: IPv6 that also carries IPv4 where the kernel has
// IPv6, else IPv4. It is made by hand because package net decides once per
// process, in the first network namespace it sees, whether there is IPv6.
func openUDP(cfg Config) (conn *net.UDPConn, v6 bool, err error) {
	addr := cfg.Listen.Addr().Unmap()
	port := int(cfg.Listen.Port())
	if !addr.IsValid() || addr.IsUnspecified() && addr.Is6() {
		conn, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: port}, cfg)
		if err == nil {
			return conn, true, nil
		}
		if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, false, err
		}
		addr = netip.IPv4Unspecified()
	}
	if addr.Is4() {
		conn, err = bindUDP(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}, cfg)
		return conn, false, err
	}
	conn, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: addr.As16()}, cfg)
	return conn, true, err
}

func bindUDP(family int, sa unix.Sockaddr, cfg Config) (*net.UDPConn, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("underlay: open UDP socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close() // FilePacketConn duplicates the descriptor
	if err := setOptions(fd, family, cfg); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, fmt.Errorf("underlay: listen on UDP %s: %w", listenText(cfg), err)
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("underlay: open UDP socket: %w", err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		pc.Close()
		return nil, fmt.Errorf("underlay: open UDP socket: got %T", pc)
	}
	return conn, nil
}

func listenText(cfg Config) string {
	if cfg.Listen.Addr().IsValid() {
		return cfg.Listen.String()
	}
	return fmt.Sprintf("port %d", cfg.Listen.Port())
}

// setOptions sets what the socket cannot do without; the rest is tried. Every
// option is repeated for IPv4 on an IPv6 socket: they are separate there.
func setOptions(fd, family int, cfg Config) error {
	type option struct {
		name              string
		level, opt, value int
	}
	must := []option{
		{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{"IP_RECVTOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		// DF on every packet, and no MTU cache of the kernel in the way: an MTU
		// probe that arrives then means something.
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
	}
	if family == unix.AF_INET6 {
		must = append(must,
			option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0},
			option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{"IPV6_RECVTCLASS", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
		)
	}
	for _, o := range must {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("underlay: set %s: %w", o.name, err)
		}
	}
	// Buffers beyond net.core.rmem_max need CAP_NET_ADMIN; without it the kernel
	// grants its maximum.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, cfg.ReceiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.ReceiveBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, cfg.SendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, cfg.SendBuffer)
	}
	if !cfg.disableGRO {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // since Linux 5.0
	}
	return nil
}
