package wire_test

import (
	"fmt"
	"time"

	"scn.alt/scn/conformance/wire"
)

// One direction of a bad radio link, driven by hand: the clock is the caller's.
func Example() {
	line, err := wire.NewLine(1, wire.Conditions{Delay: 30 * time.Millisecond, Loss: 0.5})
	if err != nil {
		panic(err)
	}
	start := time.Unix(0, 0)
	for n := range 8 {
		line.Push(start.Add(time.Duration(n)*time.Millisecond), fmt.Appendf(nil, "frame %d", n))
	}
	for {
		due, ok := line.Next()
		if !ok {
			break
		}
		fmt.Printf("%s after %v\n", line.Pop(due), due.Sub(start))
	}
	// Output:
	// frame 0 after 30ms
	// frame 3 after 33ms
	// frame 7 after 37ms
}
