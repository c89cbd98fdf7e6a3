package saltest_test

import (
	"context"
	"fmt"
	"net/netip"

	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

// A Resolver knows what it was told.
func ExampleResolver() {
	node, service := saltest.Key(1).Node(), saltest.Key(2).Service()
	var r saltest.Resolver
	r.SetNode(node, netip.MustParseAddrPort("192.0.2.1:4242"))
	r.SetService(service, record.Candidate{Node: node, Priority: 10})
	for candidates, err := range r.Resolve(context.Background(), service) {
		fmt.Println(candidates[0].Node == node, candidates[0].Locators, err)
	}
	// Output: true [192.0.2.1:4242] <nil>
}
