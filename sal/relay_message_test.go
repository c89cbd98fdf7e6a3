package sal

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

var goldenRelayMessages = []struct {
	name    string
	message relayMessage
	hex     string
}{
	{"register", relayMessage{Kind: relayRegister, Version: 1, Flags: flagRelay}, `
	01       # register
	0002     # length of the body
	01       # version
	01       # flags: a relay itself
`},
	{"registered", relayMessage{Kind: relayRegistered, Version: 1, Token: relay.Token{1, 2, 3, 4, 5, 6, 7}, Rate: 50_000_000}, `
	02       # registered
	0010     # length of the body
	01       # version
	01020304050607   # token
	0000000002faf080 # bytes a second
`},
	{"refused", relayMessage{Kind: relayRefused, Version: 1, Reason: relayFull, After: 300 * time.Second}, `
	03       # refused
	0004     # length of the body
	01       # version
	01       # full
	012c     # seconds
`},
	{"relays", relayMessage{Kind: relayRelays, Relays: []toldRelay{
		{Node: identity.NodeID(filled(0xaa)), Addresses: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:47700"), netip.MustParseAddrPort("[2001:db8::1]:1")}},
		{Node: identity.NodeID(filled(0xbb))},
	}}, `
	04       # relays
	0066     # length of the body
	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # node
	02       # addresses
	00000000000000000000ffffc0000201 ba54
	20010db8000000000000000000000001 0001
	bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # node
	00       # addresses
`},
}

var sameAddresses = cmpopts.EquateComparable(netip.AddrPort{})

func TestRelayMessages(t *testing.T) {
	for _, c := range goldenRelayMessages {
		t.Run(c.name, func(t *testing.T) {
			want := golden(t, c.hex)
			if got := c.message.Append(nil); !bytes.Equal(got, want) {
				t.Fatalf("got  %x\nwant %x", got, want)
			}
			m, n, err := parseRelayMessage(append(bytes.Clone(want), "more"...))
			if err != nil || n != len(want) {
				t.Fatalf("parse: %d, %v", n, err)
			}
			if d := cmp.Diff(c.message, m, sameAddresses); d != "" {
				t.Error(d)
			}
			for i := range want {
				if _, _, err := parseRelayMessage(want[:i]); err == nil {
					t.Errorf("no error with %d of %d bytes", i, len(want))
				}
			}
			// A shorter body is not enough either, however it is announced.
			for i := relayHeaderSize; i < len(want); i++ {
				short := bytes.Clone(want[:i])
				short[2] = byte(i - relayHeaderSize)
				if m, _, err := parseRelayMessage(short); err == nil && c.message.Kind != relayRelays {
					t.Errorf("a body of %d bytes is taken for %+v", i-relayHeaderSize, m)
				}
			}
			m, err = readRelayMessage(iotest.OneByteReader(bytes.NewReader(append(golden(t, "c80003 010203"), want...))), maxRelayBody)
			if err != nil || cmp.Diff(c.message, m, sameAddresses) != "" {
				t.Errorf("read behind an unknown kind: %+v, %v", m, err)
			}
		})
	}
}

func TestRelayMessageLimits(t *testing.T) {
	many := relayMessage{Kind: relayRelays}
	for i := range 20 {
		r := toldRelay{Node: identity.NodeID(filled(byte(i)))}
		for k := range 9 {
			r.Addresses = append(r.Addresses, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(k)}), 1))
		}
		many.Relays = append(many.Relays, r)
	}
	b := many.Append(nil)
	m, _, err := parseRelayMessage(b)
	if err != nil || len(m.Relays) != maxToldRelays || len(m.Relays[0].Addresses) != maxToldAddresses {
		t.Errorf("%d relays, %v", len(m.Relays), err)
	}
	long := append([]byte{byte(relayRegister), 0xff, 0xff}, make([]byte, 1<<16)...)
	if _, _, err := parseRelayMessage(long); !errors.Is(err, errTooLong) {
		t.Errorf("64 KiB: %v", err)
	}
	if _, err := readRelayMessage(bytes.NewReader(b), maxRegisterBody); !errors.Is(err, errTooLong) {
		t.Errorf("a list where a registration is expected: %v", err)
	}
	bad := relayMessage{Kind: relayRelays, Relays: []toldRelay{{Addresses: []netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:1"), netip.MustParseAddrPort("224.0.0.1:1"), netip.MustParseAddrPort("192.0.2.1:0"),
	}}}}
	if m, _, err := parseRelayMessage(bad.Append(nil)); err != nil || len(m.Relays[0].Addresses) != 0 {
		t.Errorf("addresses nobody can have: %+v, %v", m, err)
	}
}

// FuzzRelayMessage parses anything without panicking; what parses and is encoded again
// parses to the same.
func FuzzRelayMessage(f *testing.F) {
	for _, c := range goldenRelayMessages {
		f.Add(golden(f, c.hex))
	}
	f.Add([]byte{200, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := parseRelayMessage(b)
		if err != nil {
			return
		}
		if n > len(b) || len(m.Relays) > maxToldRelays {
			t.Fatalf("took %d of %d bytes, %d relays", n, len(b), len(m.Relays))
		}
		again, _, err := parseRelayMessage(m.Append(nil))
		if err != nil || cmp.Diff(m, again, sameAddresses, cmpopts.EquateEmpty()) != "" {
			t.Fatalf("%v, %s", err, cmp.Diff(m, again, sameAddresses, cmpopts.EquateEmpty()))
		}
		_, _ = readRelayMessage(bytes.NewReader(b), maxRegisterBody)
	})
}
