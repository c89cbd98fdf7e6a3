package network_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// A founder makes a network, and whoever gets the file can check it.
func Example() {
	founder := identity.NewKeyFromSeed(sha256.Sum256([]byte("founder")))
	first := identity.NewKeyFromSeed(sha256.Sum256([]byte("first node"))).Node()
	file, err := network.File{
		Name: "home", Sequence: 1, Zone: "top", Admission: network.Open,
		Authorities: []identity.NodeID{first},
		Bootstrap: []network.Peer{{
			Node: first, Addresses: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4600")},
		}},
	}.Sign(founder)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := network.Parse(file.Bytes())
	fmt.Println(got.Name, got.Sequence, got.ID == founder.Network(), err)

	altered := strings.Replace(string(file.Bytes()), "192.0.2.1", "192.0.2.66", 1)
	_, err = network.Parse([]byte(altered))
	fmt.Println(errors.Is(err, network.ErrSignature))
	// Output:
	// home 1 true <nil>
	// true
}
