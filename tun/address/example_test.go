package address_test

import (
	"fmt"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/address"
)

func Example() {
	pool, err := address.Open(address.Config{Network: identity.NetworkID{1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	v4, v6, err := pool.Assign(identity.ServiceID{2})
	if err != nil {
		fmt.Println(err)
		return
	}
	service, ok := pool.Service(v6)
	fmt.Println(pool.Prefix4().Contains(v4), pool.Prefix6().Contains(v6), service == identity.ServiceID{2}, ok)
	// Output: true true true true
}
