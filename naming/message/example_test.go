package message_test

import (
	"fmt"

	"scn.alt/scn/naming/message"
)

func Example() {
	query := message.AppendQuery(nil, 4711, message.FlagRecursionDesired, []byte("\x04chat\x03top\x00"), 1, 1, false)
	q, err := message.Parse(query)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d asks for %q, at most %d bytes\n", q.ID, q.Name, q.Size)
	reply := message.AppendReply(nil, query, q, 0, message.Refused, message.Error{Code: 18, Text: "not for you"})
	fmt.Printf("%d bytes refuse\n", len(reply))
	// Output:
	// 4711 asks for "\x04chat\x03top\x00", at most 1232 bytes
	// 54 bytes refuse
}
