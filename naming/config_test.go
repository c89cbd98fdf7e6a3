package naming

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	if err := (NamesConfig{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	err := NamesConfig{Zone: "a..b", WhenUnknown: "ask", SeenLimit: 1, MaxLookups: -1, Fresh: -1, Stale: 48 * time.Hour}.Validate()
	for _, want := range []string{"zone", "when unknown", "seen limit", "max lookups", "fresh", "stale"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	for _, zone := range []string{"scn.alt", "-a", "a-", "a b", "ü", strings.Repeat("a", 64)} {
		if err := (NamesConfig{Zone: zone}).Validate(); err == nil {
			t.Errorf("zone %q passes", zone)
		}
	}
	if err := (Config{}).Validate(); err == nil {
		t.Error("no address passes")
	}
	err = Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53"), {}},
		Prefixes: []netip.Prefix{{}}, MaxConns: -1, TTL: -1, Timeout: 25 * time.Hour,
	}.Validate()
	for _, want := range []string{"0.0.0.0:53", "invalid AddrPort", "prefix", "max queries", "ttl", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}

// What Open was given is closed when it fails.
func TestOpenFails(t *testing.T) {
	names, err := OpenNames(newRegistry(), NamesConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	given, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(names, &fakeAddresses{}, &fakeServices{}, nil, Config{
		Listen: []netip.AddrPort{taken.LocalAddr().(*net.UDPAddr).AddrPort()}, PacketConns: []net.PacketConn{given},
	})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
	if err := given.Close(); err == nil {
		t.Error("the socket handed in is still open")
	}
	if _, err := OpenNames(newRegistry(), NamesConfig{SeenFile: "/nowhere/at/all/seen"}); err == nil {
		t.Error("a memory that cannot be written passes")
	}
}
