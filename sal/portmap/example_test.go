package portmap_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/sal/portmap"
)

// A host without a router that maps anything goes without.
func Example() {
	m, err := portmap.New(portmap.Config{
		Port:     47700,
		Gateways: func() ([]netip.Addr, error) { return nil, nil },
		Changed:  func(at []netip.AddrPort) { fmt.Println("reached from outside at", at) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := m.Run(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(m.Mappings()), "mappings")
	// Output: 0 mappings
}
