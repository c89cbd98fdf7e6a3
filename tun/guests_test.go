package tun

import (
	"context"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// TestGuestTable bounds each device by itself, this host not at all, and keeps nothing of
// devices that use nothing.
func TestGuestTable(t *testing.T) {
	table := newGuestTable(3, 2, 1)
	first, second := netip.MustParseAddr("192.168.8.20"), netip.MustParseAddr("fd12::21")
	for _, c := range []struct {
		kind guestKind
		most int
	}{{guestFlow, 3}, {guestPacketFlow, 2}, {guestPing, 1}} {
		for _, device := range []netip.Addr{first, second} {
			for n := range c.most + 2 {
				if got, want := table.take(device, c.kind), n < c.most; got != want {
					t.Errorf("kind %d, number %d of %s: %v", c.kind, n, device, got)
				}
			}
			table.release(device, c.kind)
			if !table.take(device, c.kind) || table.take(device, c.kind) {
				t.Errorf("kind %d of %s: what was released is not to be had again, once", c.kind, device)
			}
		}
	}
	for range 100 {
		if !table.take(netip.Addr{}, guestFlow) {
			t.Fatal("this host is bounded as a device")
		}
	}
	if table.size() != 2 {
		t.Errorf("%d devices", table.size())
	}
	for _, device := range []netip.Addr{first, second, {}} {
		for kind, most := range []int{3, 2, 1} {
			for range most + 1 { // one too often
				table.release(device, guestKind(kind))
			}
		}
	}
	if table.size() != 0 {
		t.Errorf("%d devices use nothing: %v", table.size(), table.devices)
	}
}

// rules allow one device one port.
type rules struct{ device netip.Addr }

func (r rules) Contains(netip.Addr) bool { return true }

func (r rules) Allow(_ context.Context, device netip.Addr, _ identity.ServiceID, port uint16, _ record.Protocol) error {
	if device != r.device || port != 80 {
		return syscall.EACCES
	}
	return nil
}

func TestAdmit(t *testing.T) {
	device := netip.MustParseAddr("192.168.8.20")
	e := &Edge{cfg: Config{Guests: rules{device}}.withDefaults()}
	e.log = e.cfg.Logger
	for _, c := range []struct {
		device netip.Addr
		port   uint16
		want   error
	}{
		{device, 80, nil}, {device, 81, syscall.EACCES}, {device.Next(), 80, syscall.EACCES}, {netip.Addr{}, 81, nil},
	} {
		if err := e.admit(t.Context(), c.device, testService(1), c.port, record.TCP); err != c.want { //nolint:errorlint // as it is
			t.Errorf("%s, port %d: %v", c.device, c.port, err)
		}
	}
	if n := e.count.guestsRefused.Load(); n != 2 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestWarmIsOfOneDevice has no device answered early for what another one was allowed.
func TestWarmIsOfOneDevice(t *testing.T) {
	w, now := newWarmPorts(time.Minute), time.Unix(1, 0)
	first, second := netip.MustParseAddr("192.168.8.20"), netip.MustParseAddr("192.168.8.21")
	s := testService(1)
	w.accepted(first, s, 80, now)
	w.accepted(netip.Addr{}, s, 80, now)
	if !w.is(first, s, 80, now) || w.is(second, s, 80, now) || !w.is(netip.Addr{}, s, 80, now) {
		t.Error("warm for the wrong one")
	}
	w.forgetDevices()
	if w.is(first, s, 80, now) || !w.is(netip.Addr{}, s, 80, now) {
		t.Error("new rules forget the devices, and them alone")
	}
}
