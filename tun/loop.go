package tun

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"scn.alt/scn/tun/packet"
)

// loop handles the packets of one queue. One goroutine owns it.
type loop struct {
	edge      *Edge
	queue     *os.File
	fragments packet.Reassembler
	errors    errorBudget
	// device is the source of the packet at hand where that is not this host; its
	// fragments are kept apart, so that devices cannot crowd out this host's.
	device          netip.Addr
	deviceFragments packet.Reassembler
}

// handle deals with one packet from the device. b is the loop's own and may be changed.
func (l *loop) handle(b []byte) {
	e := l.edge
	h, err := packet.Parse(b)
	if err != nil {
		if !errors.Is(err, packet.ErrUnsupported) { // the kernel's own multicast reports
			e.count.malformed.Add(1)
		}
		return
	}
	f := e.family4
	if h.Is6 {
		f = e.family6
	}
	if f == nil || !f.prefix.Contains(h.Dst) {
		e.count.unsolicited.Add(1) // multicast and broadcast, mostly
		return
	}
	l.device = netip.Addr{}
	fragments := &l.fragments
	if h.Src != f.own && !e.local.contains(h.Src, time.Now()) {
		if e.cfg.Guests == nil || !e.cfg.Guests.Contains(h.Src) {
			e.count.foreign.Add(1)
			return
		}
		l.device, fragments = h.Src, &l.deviceFragments
		e.count.guestPackets.Add(1)
	}
	if h.Fragment {
		whole, ok := fragments.Add(time.Now(), b, &h)
		if !ok {
			return
		}
		b = whole
		if h, err = packet.Parse(b); err != nil || h.Fragment {
			e.count.malformed.Add(1)
			return
		}
	}
	b = b[:h.Length]
	switch h.Protocol {
	case packet.TCP:
		l.tcp(f, b, &h)
	case packet.UDP:
		l.udp(f, b, &h)
	case packet.ICMP, packet.ICMPv6:
		if packet.IsEchoRequest(b, &h) {
			l.echo(f, b, &h)
		}
	default:
		e.count.unsolicited.Add(1)
	}
}

// unknown answers a packet to an address that belongs to no service.
func (l *loop) unknown(f *family, b []byte, h *packet.Header) {
	l.edge.count.unknown.Add(1)
	if l.errors.take(time.Now()) {
		l.edge.unreachable(f.gateway, b, h, packet.HostUnreachable)
	}
}

// unreachable sends an ICMP error about a packet.
func (e *Edge) unreachable(from netip.Addr, b []byte, h *packet.Header, reason packet.Reason) {
	e.write(packet.AppendUnreachable(make([]byte, 0, 1280), from, b, h, reason))
}

// errorBudget bounds unasked-for ICMP errors to errorsPerSecond (RFC 1812 §4.3.2.8).
type errorBudget struct {
	second time.Time
	sent   int
}

const errorsPerSecond = 1000

func (b *errorBudget) take(now time.Time) bool {
	if now.Sub(b.second) >= time.Second {
		b.second, b.sent = now, 0
	}
	b.sent++
	return b.sent <= errorsPerSecond
}
