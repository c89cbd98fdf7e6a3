package homes_test

import (
	"fmt"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/homes"
)

func Example() {
	m := homes.New(homes.Config{Want: 1})
	now := time.Now()
	near, far := identity.NodeID{1}, identity.NodeID{2}
	rtt := map[identity.NodeID]time.Duration{near: 5 * time.Millisecond, far: 80 * time.Millisecond}
	do := func() {
		for _, action := range m.Take() {
			switch a := action.(type) {
			case homes.Register:
				m.Registered(now, a.Relay, rtt[a.Relay])
			case homes.Homes:
				fmt.Println("homes", a.Relays[0][0])
			}
		}
	}
	m.Know(now, far, homes.FromNetwork)
	do()
	do()
	m.Know(now, near, homes.FromRelay)
	now = m.Deadline() // it is time to measure another
	m.Tick(now)
	do()
	do()
	// Output:
	// homes 2
	// homes 1
}
