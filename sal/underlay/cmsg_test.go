package underlay

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAncillaryRoundTrip(t *testing.T) {
	for _, local := range []string{"192.0.2.7", "2001:db8::7"} {
		ip := netip.MustParseAddr(local)
		b := appendPin(nil, ip.Is4(), ip, 5)
		b = appendECN(b, ip.Is4(), 1)
		b = appendSegment(b, 1400)
		if len(b) > maxSendOOB {
			t.Errorf("%d bytes of control messages", len(b))
		}
		want := ancillary{local: ip, ifindex: 5, segment: 1400, ecn: 1, hasECN: true}
		if got := parseAncillary(b); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if all, err := unix.ParseSocketControlMessage(b); err != nil || len(all) != 3 {
			t.Errorf("the standard parser sees %d messages: %v", len(all), err)
		}
		for n := range b {
			parseAncillary(b[:n]) // must not panic
		}
	}
	if got := appendPin(nil, true, netip.Addr{}, 0); got != nil {
		t.Errorf("pinned nothing by %x", got)
	}
}

func TestUpwardECN(t *testing.T) {
	for ecn, b := range upward {
		if got := parseAncillary(b); int(got.ecn) != ecn || !got.hasECN || got.local.IsValid() {
			t.Errorf("ECN %d became %+v", ecn, got)
		}
	}
}

func FuzzAncillary(f *testing.F) {
	f.Add(appendSegment(appendECN(appendPin(nil, true, netip.MustParseAddr("192.0.2.7"), 5), true, 1), 1400))
	f.Add(appendECN(appendPin(nil, false, netip.MustParseAddr("2001:db8::7"), 5), false, 3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseAncillary(b)
		if a.ecn > ecnMask || a.segment < 0 {
			t.Fatalf("%+v", a)
		}
		c := parseAncillary(appendPin(nil, a.local.Is4(), a.local, a.ifindex))
		if a.local.IsValid() && !a.local.IsUnspecified() && c.local != a.local {
			t.Fatalf("%v became %v", a.local, c.local)
		}
	})
}
