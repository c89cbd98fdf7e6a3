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
	var res splice.Result
	var err error
	wg.Go(func() { res, err = splice.Both(context.Background(), a, b, splice.NewBuffers(1<<20)) })
	wg.Go(func() {
		fmt.Fprint(client, "hello")
		client.Close()
	})
	text, _ := io.ReadAll(server)
	fmt.Println(string(text))
	server.Close()
	wg.Wait()
	fmt.Println(res.AToB, res.BToA, err)
	// Output:
	// hello
	// 5 0 <nil>
}
