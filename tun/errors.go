package tun

import (
	"errors"
	"net"
	"syscall"

	"scn.alt/scn/tun/packet"
)

// Errors of Open, Check and an Edge.
var (
	// ErrNoDevice is returned where the kernel has no TUN devices.
	ErrNoDevice = errors.New("tun: no TUN device on this host")
	// ErrPermission is returned when the process may not create devices.
	ErrPermission = errors.New("tun: not allowed to create a TUN device")
	// ErrNameInUse is returned when a device of the wanted name exists.
	ErrNameInUse = errors.New("tun: device name in use")
	// ErrConflict is returned when the pool or the prefix overlaps the host's own routes.
	ErrConflict = errors.New("tun: address pool in conflict")
	// ErrBlocked is returned by SelfTest when packets do not come through the device.
	ErrBlocked = errors.New("tun: a firewall of this host drops what comes in")
	// ErrClosed is returned after Close; it is a net.ErrClosed.
	ErrClosed error = closedError{}
)

// closedError is what an Edge returns after Close.
type closedError struct{}

func (closedError) Error() string { return "tun: closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

// verdict is how a failed dial is told to the application.
type verdict uint8

const (
	verdictReset verdict = iota
	verdictProhibited
	verdictUnreachable
)

// judge maps an overlay's error to what the application is told.
func judge(err error) verdict {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EAGAIN):
		return verdictReset
	case errors.Is(err, syscall.EACCES):
		return verdictProhibited
	}
	return verdictUnreachable
}

// reason is the ICMP error of a verdict; a reset of TCP is port unreachable for UDP.
func (v verdict) reason() packet.Reason {
	switch v {
	case verdictReset:
		return packet.PortUnreachable
	case verdictProhibited:
		return packet.Prohibited
	case verdictUnreachable:
	}
	return packet.HostUnreachable
}
