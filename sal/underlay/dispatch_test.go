package underlay

import (
	"bytes"
	"net/netip"
	"testing"

	"scn.alt/scn/sal/path"
)

func FuzzDispatch(f *testing.F) {
	s, err := Open(Config{})
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
	f.Add([]byte{typeRelay, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
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
