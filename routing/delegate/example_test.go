package delegate_test

import (
	"context"
	"fmt"
	"iter"
	"net"
	"sync"

	"scn.alt/scn/routing/delegate"
)

// memory is a node with one record.
type memory map[string]string

func (m memory) Find(_ context.Context, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if v, ok := m[key]; ok {
			yield([]byte(v), nil)
			return
		}
		yield(nil, delegate.ErrNotFound)
	}
}

func (m memory) Store(context.Context, string, []byte) error { return delegate.ErrRefused }

// A node asks another for a record.
func Example() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := delegate.NewServer(memory{"/scn/name/files": "where files is"}, delegate.ServerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ctx, l) })

	session, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	for value, err := range delegate.Get(ctx, session, "/scn/name/files") {
		fmt.Println(string(value), err)
	}
	cancel()
	serving.Wait()
	// Output: where files is <nil>
}
