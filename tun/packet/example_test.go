package packet_test

import (
	"fmt"
	"net/netip"

	"scn.alt/scn/tun/packet"
)

func Example() {
	app, service := netip.MustParseAddrPort("198.18.0.1:40000"), netip.MustParseAddrPort("198.18.7.7:53")
	buf := make([]byte, packet.UDPHeadroom, 128)
	buf = append(buf, "an answer"...)
	p := packet.PutUDP(buf, service, app)
	h, err := packet.Parse(p)
	fmt.Println(h.Source(), h.Destination(), string(h.UDPPayload(p)), err)
	// Output: 198.18.7.7:53 198.18.0.1:40000 an answer <nil>
}
