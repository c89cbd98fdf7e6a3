package path_test

import (
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/sal/path"
)

// Two machines on one association. The client gets another address; one exchange
// of messages later both ends send over it.
func Example() {
	now := time.Unix(1_700_000_000, 0)
	client := path.Route{
		Link:   path.Link{Local: netip.MustParseAddr("192.0.2.1"), Interface: 2},
		Remote: netip.MustParseAddrPort("203.0.113.7:7000"),
	}
	server := path.Route{
		Link:   path.Link{Local: netip.MustParseAddr("203.0.113.7"), Interface: 2},
		Remote: netip.MustParseAddrPort("192.0.2.1:7000"),
	}
	secret := make([]byte, path.SecretSize) // exported from the TLS handshake
	c, err := path.New(path.Config{Initiator: true, Secret: secret, Seed: [32]byte{1}, Start: now, First: client})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := path.New(path.Config{Secret: secret, Seed: [32]byte{2}, Start: now, First: server})
	if err != nil {
		fmt.Println(err)
		return
	}

	// settle carries messages from one machine to the other until both are quiet.
	settle := func() {
		for again := true; again; {
			again = false
			for _, end := range []struct {
				name     string
				from, to *path.Machine
			}{{"client", c, s}, {"server", s, c}} {
				for _, a := range end.from.Take() {
					switch a := a.(type) {
					case path.Send:
						again = true
						back := path.Route{
							Link:   path.Link{Local: a.Route.Remote.Addr(), Interface: 2},
							Remote: netip.AddrPortFrom(a.Route.Local, 7000),
						}
						now = now.Add(time.Millisecond)
						end.to.Step(now, path.Received{Route: back, Datagram: a.Datagram})
					case path.Moved:
						fmt.Println(end.name, "moved to", a.To)
					}
				}
			}
		}
	}
	settle()
	c.Step(now, path.LinksChanged{Links: []path.Link{{Local: netip.MustParseAddr("198.51.100.9"), Interface: 3}}})
	settle()
	fmt.Println("MTU", c.Info().MTU)

	// Output:
	// client moved to 198.51.100.9%3>203.0.113.7:7000
	// server moved to 203.0.113.7%2>198.51.100.9:7000
	// MTU 1500
}
