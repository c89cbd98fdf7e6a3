package cashier_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"scn.alt/scn/cashier"
	"scn.alt/scn/routing/identity"
)

// A network's authority keeps the ledger; others register names over any
// connection to it.
func Example() {
	key := func(n byte) identity.PrivateKey { return identity.NewKeyFromSeed([32]byte{n}) }
	network, authority := key(1).Network(), key(2)
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// The authority.
	ledger, err := cashier.Open(dir, authority, cashier.Config{Network: network})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ledger.Close()
	server, err := cashier.NewServer(ledger, cashier.ServerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = server.Serve(ctx, listener) })

	// Somebody else.
	client, err := cashier.NewClient(cashier.ClientConfig{
		Network: network, Authorities: []identity.NodeID{authority.Node()},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", listener.Addr().String())
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	alice, bob := cashier.NewWallet(key(3), network, client, nil), cashier.NewWallet(key(4), network, client, nil)

	receipt, err := alice.Register(ctx, "files", key(5))
	fmt.Println("registered at height", receipt.Height, err)

	_, err = bob.Register(ctx, "files", key(6))
	var taken *cashier.Rejection
	if errors.As(err, &taken) {
		fmt.Println("taken:", errors.Is(err, cashier.ErrTaken), "by alice:", taken.Owner == alice.Account())
	}

	answer, err := client.Lookup(ctx, "files")
	fmt.Println("points at the service:", answer.Record.Service == key(5).Service(), err)
	// Output:
	// registered at height 1 <nil>
	// taken: true by alice: true
	// points at the service: true <nil>
}
