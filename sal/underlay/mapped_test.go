package underlay

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What a router maps is published and told, and no longer when it is gone.
func TestMappedAddressesAreLocators(t *testing.T) {
	told := make(chan []netip.AddrPort, 16)
	s, err := Open(Config{AllowLoopback: true, LocatorsChanged: func(l []netip.AddrPort) { told <- l }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mapped := netip.MustParseAddrPort("8.8.4.4:47700")
	await := func(want bool) {
		t.Helper()
		for {
			select {
			case l := <-told:
				if slices.Contains(l, mapped) == want {
					if slices.Contains(s.Locators(), mapped) != want {
						t.Error("Locators says something else")
					}
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("not told: %v", want)
			}
		}
	}
	await(false)
	s.SetMapped([]netip.AddrPort{mapped, netip.MustParseAddrPort("127.0.0.1:5"), netip.MustParseAddrPort("224.0.0.1:5")})
	await(true)
	if l := s.Locators(); slices.Contains(l, netip.MustParseAddrPort("224.0.0.1:5")) {
		t.Errorf("published %v", l)
	}
	s.SetMapped(nil)
	await(false)
}
