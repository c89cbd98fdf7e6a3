package purse_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/purse"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A purse whose owner allowed nothing pays for nothing, and says why.
func Example() {
	dir, err := os.MkdirTemp("", "purse")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	network, account := identity.NewKeyFromSeed([32]byte{1}).Network(), identity.NewKeyFromSeed([32]byte{2})
	ledger, err := cashier.Open(filepath.Join(dir, "ledger"), identity.NewKeyFromSeed([32]byte{3}), cashier.Config{Network: network})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ledger.Close()
	p, err := purse.Open(ledger, purse.Config{Network: network, Key: account, File: filepath.Join(dir, "purse")})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = p.Permit(voucher.Ask{Node: identity.NodeID{4}, Price: voucher.Price{PerGiB: voucher.Credit}})
	fmt.Println(errors.Is(err, meter.ErrPrice), err)
	// Output: true meter: the price is above the limit in the settings: the provider asks 1 per GiB, the settings allow 0
}
