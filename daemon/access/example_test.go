package access_test

import (
	"fmt"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Rules decide, and say why.
func ExampleBook_Explain() {
	policy, err := access.ParsePolicy([]byte(`
[services]
files = ["allow all 443/tcp # the public part", "allow all 8000-8100"]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	book := access.Book{Services: policy.Services}
	caller := access.Caller{Node: identity.NodeID{1}}
	for _, port := range []uint16{443, 22} {
		d := book.Explain("files", access.Request{Caller: caller, Port: port, Protocol: record.TCP}, time.Now())
		fmt.Println(port, d.Action, d.Reason)
	}
	// Output:
	// 443 allow rule 1 (allow all 443/tcp # the public part): it is for everybody
	// 22 deny no rule matches (default deny)
}
