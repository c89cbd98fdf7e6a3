package record_test

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

func ExampleOpenNode() {
	key := identity.NewKeyFromSeed([32]byte{1})
	start := time.Unix(1_800_000_000, 0)
	sealed, err := record.NodeRecord{
		Node:     key.Node(),
		Sequence: record.NextSequence(0, start),
		NotAfter: start.Add(10 * time.Minute).Unix(),
		Locators: []record.Locator{{AddrPort: netip.MustParseAddrPort("192.0.2.1:4600")}},
	}.Seal(key)
	if err != nil {
		fmt.Println(err)
		return
	}

	r, err := record.OpenNode(key.Node(), sealed, start)
	fmt.Println(r.Addresses(), r.Sequence, err)

	// An expired locator may still be probed, so the record comes with the error.
	r, err = record.OpenNode(key.Node(), sealed, start.Add(time.Hour))
	fmt.Println(r.Addresses(), errors.Is(err, record.ErrExpired))
	// Output:
	// [192.0.2.1:4600] 1800000000000000 <nil>
	// [192.0.2.1:4600] true
}

func ExampleMerge() {
	key := identity.NewKeyFromSeed([32]byte{1})
	node := func(n byte) identity.NodeID { return identity.NodeID{n} }
	first := record.ServiceRecord{Service: key.Service()}.Grant(record.Grant{Node: node(1)}, 1)

	// Two copies of the service key write apart.
	a := first.Grant(record.Grant{Node: node(2)}, 2)
	b := first.Revoke(node(1), 3)

	merged := record.Merge(a, b)
	for n := byte(1); n <= 2; n++ {
		_, granted := merged.Granted(node(n))
		fmt.Println(n, granted)
	}
	// Output:
	// 1 false
	// 2 true
}
