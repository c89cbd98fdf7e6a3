package voucher_test

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
)

// Amounts are read strictly and written shortly.
func Example() {
	price, err := voucher.ParseAmount("1.50")
	fmt.Println(price, uint64(price), err)

	_, err = voucher.ParseAmount("1.0000001")
	fmt.Println(errors.Is(err, voucher.ErrPlaces))

	total, fits := price.Add(voucher.Credit)
	fmt.Println(total, fits)
	// Output:
	// 1.5 1500000 <nil>
	// true
	// 2.5 true
}
