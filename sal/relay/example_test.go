package relay_test

import (
	"fmt"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

// A relay takes a datagram of one registered node for another, and writes its own
// header over the one it came with.
func Example() {
	table, err := relay.NewTable[string](relay.Limits{})
	if err != nil {
		panic(err)
	}
	alice, bob := identity.NodeID{0xa1, 0x1c, 0xe0}, identity.NodeID{0xb0, 0xb0}
	for _, r := range []struct {
		node  identity.NodeID
		token relay.Token
		at    string
	}{{alice, relay.Token{1}, "192.0.2.1:7"}, {bob, relay.Token{2}, "198.51.100.1:7"}} {
		if err := table.Register(r.node, r.token, r.at); err != nil {
			panic(err)
		}
	}

	datagram := relay.Header{Type: relay.TypeForward, Token: relay.Token{1}, Node: relay.Prefix(bob[:8])}.Append(nil)
	datagram = append(datagram, "@ sealed"...)

	h, _, err := relay.Parse(datagram)
	if err != nil {
		panic(err)
	}
	from := table.Sender(h.Token, 1)
	to, verdict := table.Route(time.Second, from, h.Node, 1, len(datagram))
	if verdict != relay.Forward {
		panic(verdict)
	}
	relay.Header{Type: relay.TypeRelayed, Token: to.Token, Node: from.Prefix()}.Put(datagram)
	h, inner, err := relay.Parse(datagram)
	fmt.Printf("%s: %s, %q, %v\n", to.Peer, h, inner, err)
	// Output: 198.51.100.1:7: relayed from a11ce00000000000, "@ sealed", <nil>
}
