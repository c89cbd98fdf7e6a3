package path

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
)

var compareAddresses = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func compareMessages() cmp.Options {
	return cmp.Options{
		compareAddresses,
		cmp.AllowUnexported(message{}, state{}, challenge{}, echo{}, locators{}, probe{}, probeEcho{}),
	}
}

func unhex(t *testing.T, parts ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	testV4 = netip.MustParseAddrPort("192.0.2.1:7000")
	testV6 = netip.MustParseAddrPort("[2001:db8::2]:7001")
)

// testNode is a node ID of ascending bytes.
func testNode(first byte) (id identity.NodeID) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

// messageCases has each frame once, with the bytes it must have forever.
var messageCases = []struct {
	name  string
	make  func(m *message)
	bytes []string
}{
	{"state only", func(m *message) {
		m.state = state{inUse: true, generation: 0x01020304, seen: 5}
	}, []string{
		"01",       // flags: in use
		"01020304", // generation
		"00000005", // locators seen
	}},
	{"a backup link's state", func(m *message) {
		m.state = state{inUse: true, class: classBackup}
	}, []string{
		"07 00000000 00000000", // flags: in use, backup
	}},
	{"a preferred link's state", func(m *message) {
		m.state = state{class: classPrefer}
	}, []string{
		"02 00000000 00000000", // flags: preferred
	}},
	{"a metered link's state", func(m *message) {
		m.state = state{class: classMetered}
	}, []string{
		"04 00000000 00000000", // flags: metered
	}},
	{"challenge", func(m *message) {
		m.addChallenge(challenge{nonce: 0x1122334455667788})
	}, []string{
		"00 00000000 00000000",
		"01 0008",          // challenge, 8 bytes
		"1122334455667788", // nonce
	}},
	{"echo", func(m *message) {
		m.addEcho(echo{nonce: 0x1122334455667788, observed: testV4})
	}, []string{
		"00 00000000 00000000",
		"02 001a",                          // echo, 26 bytes
		"1122334455667788",                 // nonce
		"00000000000000000000ffffc0000201", // ::ffff:192.0.2.1
		"1b58",                             // port 7000
	}},
	{"locators", func(m *message) {
		l := locators{sequence: 9, count: 2}
		l.list[0], l.list[1] = testV4, testV6
		m.addLocators(l)
	}, []string{
		"00 00000000 00000000",
		"03 002c",  // locators, 44 bytes
		"00000009", // sequence
		"01 12",    // address, 18 bytes
		"00000000000000000000ffffc0000201 1b58",
		"01 12",
		"20010db8000000000000000000000002 1b59",
	}},
	{"locators and relays", func(m *message) {
		l := locators{sequence: 10, count: 1, relayCount: 2}
		l.list[0] = testV4
		l.relayList[0], l.relayList[1] = testNode(0xa0), testNode(0xb0)
		m.addLocators(l)
	}, []string{
		"00 00000000 00000000",
		"03 005c",  // locators, 92 bytes
		"0000000a", // sequence
		"01 12",    // address, 18 bytes
		"00000000000000000000ffffc0000201 1b58",
		"02 20", // relay, 32 bytes
		"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf",
		"02 20",
		"b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf",
	}},
	{"probe", func(m *message) {
		m.addProbe(probe{nonce: 0x1122334455667788, size: 1280})
	}, []string{
		"00 00000000 00000000",
		"04 000a",          // probe, 10 bytes
		"1122334455667788", // nonce
		"0500",             // IP packet size
	}},
	{"probe echo", func(m *message) {
		m.addProbeEcho(probeEcho{nonce: 0x1122334455667788, size: 1280})
	}, []string{
		"00 00000000 00000000",
		"05 000a 1122334455667788 0500",
	}},
	{"several", func(m *message) {
		m.addChallenge(challenge{nonce: 1})
		m.addEcho(echo{nonce: 2, observed: testV6})
	}, []string{
		"00 00000000 00000000",
		"01 0008 0000000000000001",
		"02 001a 0000000000000002 20010db8000000000000000000000002 1b59",
	}},
}

func TestMessageBytes(t *testing.T) {
	for _, tc := range messageCases {
		t.Run(tc.name, func(t *testing.T) {
			var m message
			tc.make(&m)
			want := unhex(t, tc.bytes...)
			got := m.append(nil)
			if !bytes.Equal(got, want) {
				t.Fatalf("bytes\n got %x\nwant %x", got, want)
			}
			if n := m.datagramSize() - headerSize - tagSize; n != len(want) {
				t.Errorf("size %d, want %d", n, len(want))
			}
			back, err := parseMessage(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, back, compareMessages()); diff != "" {
				t.Errorf("parsed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMessageTruncated cuts each message at every point: only a cut between two
// frames may leave a message.
func TestMessageTruncated(t *testing.T) {
	for _, tc := range messageCases {
		t.Run(tc.name, func(t *testing.T) {
			var m message
			tc.make(&m)
			whole := m.append(nil)
			boundaries := map[int]bool{stateSize: true}
			for at := stateSize; at < len(whole); {
				at += frameHeaderSize + int(whole[at+1])<<8 + int(whole[at+2])
				boundaries[at] = true
			}
			for n := range whole {
				_, err := parseMessage(whole[:n])
				if wantError := !boundaries[n]; (err != nil) != wantError {
					t.Errorf("cut at %d of %d: error %v", n, len(whole), err)
				}
			}
		})
	}
}

func TestMessageLengths(t *testing.T) {
	const start = "00 00000000 00000000"
	for _, tc := range []struct {
		name, frames string
		bad          bool
	}{
		{"empty padding", "00 0000", false},
		{"padding", "00 0003 010203", false},
		{"unknown kind", "77 0002 0102", false},
		{"padding between", "01 0008 0000000000000001 00 0001 00 04 000a 0000000000000002 0500", false},
		{"long challenge", "01 0009 000000000000000100", true},
		{"short challenge", "01 0007 00000000000000", true},
		{"long echo", "02 001b 0000000000000002 20010db8000000000000000000000002 1b59 00", true},
		{"short probe", "04 0009 000000000000000105", true},
		{"long probe echo", "05 000b 0000000000000001050000", true},
		{"two challenges", "01 0008 0000000000000001 01 0008 0000000000000002", true},
		{"short locators", "03 0003 000000", true},
		{"no locators", "03 0004 00000001", false},
		{"locator cut", "03 0006 00000001 0112", true},
		{"locator without length", "03 0005 00000001 01", true},
		{"locator of wrong size", "03 0007 00000001 01 01 00", true},
		{"relay locator of wrong size", "03 0008 00000001 02 02 0102", true},
		{"unknown locator", "03 0008 00000001 77 02 0102", false},
		{"frame header cut", "01 00", true},
		{"length beyond end", "77 ffff 00", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parseMessage(unhex(t, start, tc.frames)); (err != nil) != tc.bad {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLocatorsSkipsTheUnusable(t *testing.T) {
	var l locators
	l.sequence = 1
	b := l.append(nil)
	add := func(a string) { b = appendAddress(append(b, locatorAddress, addressSize), netip.MustParseAddrPort(a)) }
	add("0.0.0.0:7000")
	add("224.0.0.1:7000")
	add("192.0.2.1:0")
	add("255.255.255.255:7000")
	add("[ff02::1]:7000")
	add("[fd53:5201::1]:1") // stands for a relay in the process that made it up
	for range MaxLocators + 3 {
		add("192.0.2.9:7000")
	}
	for _, first := range []byte{1, 1, 2, 3, 4} {
		id := testNode(first)
		b = append(append(b, locatorRelay, identity.Size), id[:]...)
	}
	b = append(append(b, locatorRelay, identity.Size), make([]byte, identity.Size)...)
	got, err := parseLocators(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.count != MaxLocators || got.list[0] != netip.MustParseAddrPort("192.0.2.9:7000") {
		t.Errorf("got %v", got.addresses())
	}
	if want := []identity.NodeID{testNode(1), testNode(2), testNode(3)}; !slices.Equal(got.relays(), want) {
		t.Errorf("got relays %v, want %v", got.relays(), want)
	}
}

func TestPadding(t *testing.T) {
	d, err := newDirection(make([]byte, SecretSize), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1096, 1252, 1400, 1472} {
		var m message
		m.addProbe(probe{size: uint16(size)})
		m.padTo(size)
		if n := len(d.seal(1, m.append(nil))); n != size || m.datagramSize() != size {
			t.Errorf("padded to %d (says %d), want %d", n, m.datagramSize(), size)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, tc := range messageCases {
		var m message
		tc.make(&m)
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again, err := parseMessage(m.append(nil))
		if err != nil {
			t.Fatalf("what was parsed does not parse again: %v", err)
		}
		if diff := cmp.Diff(m, again, compareMessages()); diff != "" {
			t.Errorf("changed on the way (-first +second):\n%s", diff)
		}
	})
}

func FuzzParseLocators(f *testing.F) {
	l := locators{sequence: 3, count: 1}
	l.list[0] = testV6
	f.Add(l.append(nil))
	l.relayCount, l.relayList[0] = 1, testNode(1)
	f.Add(l.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLocators(b)
		if err != nil {
			return
		}
		if l.count > MaxLocators {
			t.Fatalf("%d locators", l.count)
		}
		if l.relayCount > MaxRelays {
			t.Fatalf("%d relays", l.relayCount)
		}
		for _, a := range l.addresses() {
			if !usableRemote(a) || IsRelayed(a) {
				t.Errorf("unusable %s", a)
			}
		}
	})
}
