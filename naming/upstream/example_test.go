package upstream_test

import (
	"context"
	"errors"
	"fmt"

	"scn.alt/scn/naming/message"
	"scn.alt/scn/naming/upstream"
)

func Example() {
	f, err := upstream.New(upstream.Config{}) // Servers: what the host asked before us
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	query := message.AppendQuery(nil, 1, message.FlagRecursionDesired, []byte("\x07example\x03com\x00"), 1, 1, false)
	_, err = f.Exchange(context.Background(), query)
	fmt.Println(errors.Is(err, upstream.ErrNoServer))
	// Output: true
}
