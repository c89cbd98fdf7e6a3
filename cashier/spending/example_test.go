package spending_test

import (
	"fmt"
	"time"

	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A node that may spend two credits a day opens channels until they are spent.
func Example() {
	book, err := spending.NewBook(spending.Limits{
		MaxPerGiB: voucher.Credit / 2, PerService: spending.Unlimited, PerDay: 2 * voucher.Credit, Deposit: voucher.Credit,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	files, now := identity.ServiceID{1}, time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for i := range byte(3) {
		deposit, err := book.Grant(files, voucher.Credit, voucher.Credit, now)
		if err != nil {
			fmt.Println(err)
			return
		}
		book.Open(voucher.ChannelID{i}, files, deposit)
		fmt.Println("opened with", deposit)
	}
	// Output:
	// opened with 1
	// opened with 1
	// the budget for all services is 2 credits a day; 0 are spent and 2 lie in open channels, 1 more are needed
}
