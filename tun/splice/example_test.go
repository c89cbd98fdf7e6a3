package splice_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"scn.alt/scn/tun/splice"
)

func Example() {
	client, a := net.Pipe()
	b, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := splice.Both(context.Background(), a, b, splice.NewBuffers(1<<20))
		fmt.Println(res.AToB, res.BToA, err)
	})
	wg.Go(func() {
		fmt.Fprint(client, "hello")
		client.Close()
	})
	text, _ := io.ReadAll(server)
	fmt.Println(string(text))
	server.Close()
	wg.Wait()
	// Output:
	// hello
	// 5 0 <nil>
}
