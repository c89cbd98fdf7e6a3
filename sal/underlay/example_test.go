package underlay_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/underlay"
)

// A node has one socket with one quic.Transport, which both dials and listens.
func Example() {
	s, err := underlay.Open(underlay.Config{
		LocatorsChanged: func(at []netip.AddrPort) { /* publish them */ },
		Dead:            func(a *underlay.Association) { /* close its connection, then a */ },
	})
	if err != nil {
		panic(err)
	}
	defer s.Close()
	transport := &quic.Transport{Conn: s, ConnectionIDGenerator: s.ConnectionIDGenerator()}
	defer transport.Close()

	// Dialling: the association first, then the connection to its address.
	dial := func(ctx context.Context, node identity.NodeID, at []netip.AddrPort, conf *tls.Config) (*quic.Conn, error) {
		a, err := s.Dial(node, at)
		if err != nil {
			return nil, err
		}
		c, err := transport.Dial(ctx, a.Addr(), conf, &quic.Config{InitialPacketSize: 1400, DisablePathMTUDiscovery: true})
		if err != nil {
			return nil, err
		}
		state := c.ConnectionState().TLS
		secret, err := state.ExportKeyingMaterial(underlay.ExporterLabel, nil, underlay.SecretSize)
		if err != nil {
			return nil, err
		}
		return c, a.Bind(secret, true)
	}
	_ = dial

	a, err := s.Dial(identity.NodeID{0x5c}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4242")})
	if err != nil {
		panic(err)
	}
	defer a.Close()
	fmt.Println(a.Addr().IP)
	// Output: fd53:434e:5c00::
}
