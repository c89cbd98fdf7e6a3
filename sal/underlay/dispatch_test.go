package underlay

import (
	"bytes"
	"net/netip"
	"testing"

	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

func FuzzDispatch(f *testing.F) {
	s, err := Open(Config{Relay: &relay.Limits{}})
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { s.Close() })
	r := newReceiver(s)
	r.arrival = arrival{from: netip.MustParseAddrPort("192.0.2.1:7"), link: path.Link{Interface: 1}, now: 1}
	_, cid := bare(f, s, r.from)
	own, err := s.ids.GenerateConnectionID()
	if err != nil {
		f.Fatal(err)
	}
	long := append([]byte{headerFormBit | headerFixedBit, 0, 0, 0, 1, connectionIDLen}, own.Bytes()...)
	f.Add(shortHeader(cid, 40))
	f.Add(append(long, connectionIDLen, 1, 2, 3, 4, 5, 6, 7, 8, 0))
	f.Add(append([]byte{typePath}, make([]byte, 40)...))
	f.Add(cutAll(bytes.Repeat([]byte{0x40}, 1400), 1096, 3)[0])
	f.Add([]byte{typeFEC})
	f.Add([]byte{typeForward, 0})
	f.Add([]byte{typeRelayed, 0})
	// A registered node, which is a relay too.
	a := s.table.cid(cid)
	a.bound.Store(true)
	token, err := a.GrantRelay()
	if err != nil {
		f.Fatal(err)
	}
	if err := a.UseRelay(token); err != nil {
		f.Fatal(err)
	}
	forward := relay.Header{Type: typeForward, Token: token, Node: relay.Prefix{9}}.Append(nil)
	relayed := relay.Header{Type: typeRelayed, Token: token, Node: relay.Prefix{9}}.Append(nil)
	f.Add(append(bytes.Clone(forward), shortHeader(cid, 40)...))
	f.Add(append(bytes.Clone(relayed), shortHeader(cid, 40)...))
	f.Add(append(bytes.Clone(relayed), typePath, 1, 2))
	f.Add(append(bytes.Clone(relayed), relayed...))
	f.Add(append(bytes.Clone(relayed), cutAll(bytes.Repeat([]byte{0x40}, 1400), 1096, 3)[0]...))
	f.Add(cutAll(append(bytes.Clone(relayed), bytes.Repeat([]byte{0x40}, 1400)...), 1096, 3)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		r.rewrap()
		r.now++
		data, up, stranger := r.dispatch(bytes.Clone(b))
		if (up == nil) != (len(data) == 0) {
			t.Fatalf("%d bytes for %v", len(data), up)
		}
		if up != nil && isMadeUp(up) {
			t.Fatalf("a stranger became %v", up)
		}
		if stranger && !isQUIC(data[0]) {
			t.Fatalf("%x went up", data[0])
		}
		if len(s.table.pending) > maxPending {
			t.Fatal("too many pending")
		}
	})
}
