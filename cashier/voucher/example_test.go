package voucher_test

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
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

// A client pays by telling how much it owes in all: the newest voucher is the bill.
func ExampleVoucher() {
	network := identity.NewKeyFromSeed([32]byte{1}).Network()
	session := identity.NewKeyFromSeed([32]byte{2}) // made for one channel
	price := voucher.Price{PerGiB: voucher.Credit / 2}

	opening := voucher.Opening{Network: network, Session: session.Public(), Nonce: voucher.TransferID{7}}
	v := voucher.Voucher{Channel: opening.ID(), Sequence: 1, Bytes: 200_000_000}
	v.Amount, _ = price.Cost(v.Bytes, v.Milliseconds)
	v.Sign(session, network)

	got, err := voucher.ParseVoucher(v.Append(nil))
	fmt.Println(got.Amount, got.Verify(opening.Session, network), err)
	// Output: 0.093133 true <nil>
}
