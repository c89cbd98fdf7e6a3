package till_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/till"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A node puts a price on a service it owns.
func Example() {
	dir, err := os.MkdirTemp("", "till")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	key := func(n byte) identity.PrivateKey { return identity.NewKeyFromSeed([32]byte{n}) }
	network, node, account, files := key(1).Network(), key(2), key(3), key(4)
	ledger, err := cashier.Open(filepath.Join(dir, "ledger"), key(5), cashier.Config{Network: network})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ledger.Close()
	t, err := till.Open(ledger, till.Config{Network: network, Node: node, Wallet: cashier.NewWallet(account, network, ledger, nil), File: filepath.Join(dir, "till")})
	if err != nil {
		fmt.Println(err)
		return
	}
	grant := voucher.Grant{Node: node.Node(), Account: account.Account(), NotAfter: time.Now().Add(24 * time.Hour).Unix()}
	grant.Sign(files, network)
	if _, err := t.Post(context.Background(), grant, till.Terms{Price: voucher.Price{PerGiB: voucher.Credit / 20}}); err != nil {
		fmt.Println(err)
		return
	}
	ask, priced := t.Ask(files.Service())
	fmt.Println(priced, ask.Price)
	// Output: true 0.05 per GiB
}
