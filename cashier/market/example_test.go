package market_test

import (
	"fmt"
	"time"

	"scn.alt/scn/cashier/market"
	"scn.alt/scn/cashier/voucher"
)

// Two providers: one near and dear, one cheap and far away.
func Example() {
	for _, name := range []string{"cheapest", "fastest"} {
		policy, err := market.ParsePolicy(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		offers := []market.Offer{
			{Price: voucher.Price{PerGiB: 2 * voucher.Credit}, RTT: 3 * time.Millisecond},
			{Price: voucher.Price{PerGiB: voucher.Credit}, RTT: 80 * time.Millisecond},
		}
		policy.Order(offers)
		first := offers[0]
		if offers[1].Rank < first.Rank {
			first = offers[1]
		}
		fmt.Println(policy, "takes the one at", first.Price)
	}
	// Output:
	// cheapest takes the one at 1 per GiB
	// fastest takes the one at 2 per GiB
}
