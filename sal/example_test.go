package sal_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/saltest"
)

// One node serves a service, another dials it by its ID.
func Example() {
	resolver := &saltest.Resolver{} // routing.Router in a real node
	network := saltest.Key(1).Network()
	open := func(key int) *sal.Node {
		node, err := sal.Open(sal.Config{
			Key: saltest.Key(key), Network: network, Resolver: resolver,
			AllowLoopback: true, IgnoreInterface: func(name string) bool { return name != "lo" },
		})
		if err != nil {
			panic(err)
		}
		return node
	}
	provider, client := open(2), open(3)
	defer provider.Close()
	defer client.Close()

	service := saltest.Key(4).Service()
	resolver.SetService(service, record.Candidate{Node: provider.ID(), Locators: provider.Locators()})
	provider.Handle(service, func(_ context.Context, in *sal.Incoming) {
		if in.Port != 7 {
			in.Reject(nil) // a plain refusal
			return
		}
		conn, err := in.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := client.Dial(ctx, service, 7)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello")
	_ = conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	fmt.Println(string(answer), err)
	fmt.Println(conn.RemoteAddr().(sal.Addr).Node == provider.ID())

	_, err = client.Dial(ctx, service, 8)
	fmt.Println(err != nil)
	// Output:
	// hello <nil>
	// true
	// true
}
