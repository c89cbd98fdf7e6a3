package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestForward has datagrams of all sizes arrive whole at another host: rejoined where
// they were cut, with the checksums that a packet on a wire needs.
func TestForward(t *testing.T) {
	for _, addrs := range [][2]string{{"198.18.0.9:53", "192.168.8.20:4000"}, {"[fd00::9]:53", "[fd12::20]:4000"}} {
		src, dst := netip.MustParseAddrPort(addrs[0]), netip.MustParseAddrPort(addrs[1])
		for _, size := range []int{0, 1, 1000, 1232, 1233, 1500, 8192, 65507} {
			payload := bytes.Repeat([]byte{1, 2, 3, 5, 7, 11, 13}, size/7+1)[:size]
			b := PutUDP(append(make([]byte, UDPHeadroom), payload...), src, dst)
			var r Reassembler
			var whole []byte
			pieces := 0
			Forward(b, 77, func(p []byte) {
				pieces++
				h, err := Parse(p)
				if err != nil {
					t.Fatal(err)
				}
				if h.Is6 && len(p) > forwardMTU {
					t.Errorf("%d bytes: a piece of %d", size, len(p))
				}
				if !h.Fragment {
					whole = slices.Clone(p)
					return
				}
				if joined, ok := r.Add(time.Now(), p, &h); ok {
					whole = slices.Clone(joined)
				}
			})
			h, err := Parse(whole)
			if err != nil {
				t.Fatalf("%s, %d bytes in %d pieces: %v", dst, size, pieces, err)
			}
			if got := h.UDPPayload(whole); !bytes.Equal(got, payload) || h.Source() != src || h.Destination() != dst {
				t.Errorf("%d bytes in %d pieces: %d bytes from %s to %s", size, pieces, len(got), h.Source(), h.Destination())
			}
			if sum := fold(sum(whole[h.Offset:h.Length], pseudoAddr(h.Src, h.Dst, UDP, h.Length-h.Offset))); sum != 0xffff {
				t.Errorf("%d bytes: checksum leaves %x", size, sum)
			}
			if h.Is6 {
				continue
			}
			if whole[6]&0x40 != 0 || binary.BigEndian.Uint16(whole[4:]) != 77 || Checksum(whole[:h.Offset]) != 0 {
				t.Errorf("%d bytes: header %x", size, whole[:h.Offset])
			}
		}
	}
	Forward([]byte{0x45, 0}, 1, func([]byte) { t.Error("garbage is forwarded") })
}
