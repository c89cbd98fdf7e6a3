package tun

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/packet"
)

// Guests says which devices other than this host may use the edge: those whose packets
// this host's kernel forwards into the TUN. Its methods may be called concurrently.
type Guests interface {
	// Contains reports whether an address is that of a device that may ask for
	// anything. It is called for every packet of a device and must not wait.
	Contains(device netip.Addr) bool
	// Allow returns nil if the device may use a port of a service; port 0 asks for a
	// ping. It may wait, until ctx ends. Its error is told to the device as one of
	// Overlay.Dial is: syscall.EACCES is "prohibited".
	Allow(ctx context.Context, device netip.Addr, service identity.ServiceID, port uint16, protocol record.Protocol) error
}

// guestTable counts what each device uses. A device that uses nothing has no entry, so
// the flows bound it.
type guestTable struct {
	flows, packetFlows, pings int // constant: what one device may have

	mu      sync.Mutex // guards below
	devices map[netip.Addr]*[guestKinds]int
}

// guestKind is what is counted of a device.
type guestKind uint8

const (
	guestFlow guestKind = iota
	guestPacketFlow
	guestPing
	guestKinds
)

func newGuestTable(flows, packetFlows, pings int) *guestTable {
	return &guestTable{flows: flows, packetFlows: packetFlows, pings: pings, devices: make(map[netip.Addr]*[guestKinds]int)}
}

// take counts one more, unless the device has all it may have. The zero address is this
// host, which has no such bound.
func (t *guestTable) take(device netip.Addr, kind guestKind) bool {
	if !device.IsValid() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	use := t.devices[device]
	if use == nil {
		use = new([guestKinds]int)
	}
	if use[kind] >= [guestKinds]int{t.flows, t.packetFlows, t.pings}[kind] {
		return false
	}
	use[kind]++
	t.devices[device] = use
	return true
}

// release counts one less.
func (t *guestTable) release(device netip.Addr, kind guestKind) {
	if !device.IsValid() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	use := t.devices[device]
	if use == nil || use[kind] == 0 {
		return
	}
	if use[kind]--; *use == [guestKinds]int{} {
		delete(t.devices, device)
	}
}

func (t *guestTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.devices)
}

// admit asks whether a device may use a port; this host may use all.
func (e *Edge) admit(ctx context.Context, device netip.Addr, service identity.ServiceID, port uint16, protocol record.Protocol) error {
	if !device.IsValid() {
		return nil
	}
	err := e.cfg.Guests.Allow(ctx, device, service, port, protocol)
	if err != nil {
		e.count.guestsRefused.Add(1)
		e.log.Debug("device refused", "remote", device.String(), "service", service.Short(), "port", port, "err", err)
	}
	return err
}

// writeTo writes a packet of ours to the application or device it is for.
func (e *Edge) writeTo(device netip.Addr, b []byte) {
	if !device.IsValid() {
		e.write(b)
		return
	}
	packet.Forward(b, e.fragment.Add(1), e.write)
}

// recheckPatience bounds how long the rules may take to answer for one flow.
const recheckPatience = 5 * time.Second

// RecheckGuests asks Guests again about every open flow of a device, and ends those that
// may not be any more: call it after the rules changed.
func (e *Edge) RecheckGuests(ctx context.Context) {
	type flow struct {
		device   netip.Addr
		service  identity.ServiceID
		port     uint16
		protocol record.Protocol
		end      context.CancelFunc
	}
	var open []flow
	e.warm.forgetDevices()
	e.tcp.each(func(f *tcpFlow) {
		if f.device.IsValid() && f.state != flowClosing {
			open = append(open, flow{f.device, f.service, f.port, record.TCP, f.cancel})
		}
	})
	e.udp.each(func(f *packetFlow) {
		if f.device.IsValid() {
			open = append(open, flow{f.device, f.service, f.port, record.UDP, f.cancel})
		}
	})
	for _, f := range open {
		ctx, cancel := context.WithTimeout(ctx, recheckPatience)
		if e.admit(ctx, f.device, f.service, f.port, f.protocol) != nil && ctx.Err() == nil {
			f.end()
		}
		cancel()
	}
}

// each calls f with every flow, with the table's lock held.
func (t *tcpTable) each(f func(*tcpFlow)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, flow := range t.byApp {
		f(flow)
	}
}

// each calls f with every flow, with the table's lock held.
func (t *packetTable) each(f func(*packetFlow)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, flow := range t.flows {
		f(flow)
	}
}
