package tun

import (
	"context"
	"net"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/packet"
)

// flowState is where a TCP flow is.
//
//	SYN ──► held ──dial answered──► passed ──our listener accepted──► open
//	          │                       │ reset, nobody came              │ both ends closed, or reset
//	          │ refused               ▼                                 ▼
//	          └──────► gone ◄───── closing ◄──────────────────────── closing
//
// A flow of a warm port begins as passed. A closing flow still rewrites the kernel's
// last packets, for a few seconds.
type flowState uint8

const (
	flowHeld flowState = iota
	flowPassed
	flowOpen
	flowClosing
	flowGone
)

// tuple is a flow as the application's kernel sees it, IPv4 as mapped addresses. A plain
// array hashes in a few nanoseconds.
type tuple struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
}

func tupleOf(src, dst netip.AddrPort) tuple {
	return tuple{src.Addr().As16(), dst.Addr().As16(), src.Port(), dst.Port()}
}

// tcpFlow is one TCP connection of an application.
type tcpFlow struct {
	// Constant after the table made it.
	key      tuple
	service  identity.ServiceID
	port     uint16
	family   *family
	app      netip.AddrPort // the application
	device   netip.Addr     // the application's host, if not this one
	virtual  netip.AddrPort // where it connects to
	number   int            // of the made-up peer
	forward  packet.Turn    // application to listener
	back     packet.Turn    // listener to application
	ctx      context.Context
	cancel   context.CancelFunc
	accepted chan *net.TCPConn // holds the one connection our listener accepted

	// Guarded by the table's mu.
	state           flowState
	syn             []byte // the newest SYN, while held
	isn             uint32 // its sequence number
	fromApp, fromUs half
	reset           bool
	conn            *net.TCPConn // once accepted
	expires         time.Time    // while closing
}

// half is one direction of a flow, as far as its end goes.
type half struct {
	fin   bool
	end   uint32 // the sequence number after the FIN
	acked bool
}

// sent notes a segment of this direction, heard one of the other. They report whether
// the direction's end came nearer.
func (d *half) sent(s *packet.Segment) bool {
	if s.Flags&packet.FIN == 0 || d.fin {
		return false
	}
	d.fin, d.end = true, s.End
	return true
}

func (d *half) heard(s *packet.Segment) bool {
	if !d.fin || d.acked || !s.Acks(d.end) {
		return false
	}
	d.acked = true
	return true
}

// lingerFor is how long a closing flow keeps rewriting. Once both ends were acknowledged
// only a last acknowledgement can come again. Until then packets may be lost in the
// device's queue and sent again later and later; a flow whose application never closes
// its half ends with the kernel's own patience (tcp_fin_timeout is 60 s).
func (f *tcpFlow) lingerFor() time.Duration {
	switch {
	case f.reset:
		return time.Second
	case f.fromApp.acked && f.fromUs.acked:
		return 3 * time.Second
	}
	return 150 * time.Second
}
