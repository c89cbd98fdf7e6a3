package reach_test

import (
	"fmt"

	"scn.alt/scn/conformance/reach"
)

// Two carriers' customers meet, a symmetric NAT and a filter do not.
func ExampleDirect() {
	for _, peer := range []reach.Kind{reach.CarrierAndHome, reach.Symmetric} {
		ok, why := reach.Direct(reach.CarrierAndHome, peer)
		fmt.Printf("%s: %v: %s\n", peer, ok, why)
	}
	// Output:
	// carrier+home: true: both know where the other's packets come from, and each opens its filter by sending there
	// symmetric: false: the port the symmetric one will have is not known to the filter of the other
}
