package name_test

import (
	"fmt"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

func ExampleParse() {
	n, err := name.Parse("Files")
	fmt.Println(n, err)
	_, err = name.Parse("files.top")
	fmt.Println(err)
	// Output:
	// files <nil>
	// invalid name "files.top": only letters, digits and hyphens
}

func ExampleOpen() {
	authority := identity.NewKeyFromSeed([32]byte{1})
	start := time.Unix(1_800_000_000, 0)
	sealed, err := name.Record{
		Name: "files", Height: 7, NotAfter: start.Add(name.Validity).Unix(),
	}.Seal(authority)
	if err != nil {
		fmt.Println(err)
		return
	}

	r, err := name.Open("files", sealed, []identity.NodeID{authority.Node()}, start)
	fmt.Println(r.Name, r.Height, err)
	_, err = name.Open("files", sealed, nil, start) // a network with other authorities
	fmt.Println(err)
	// Output:
	// files 7 <nil>
	// name: not signed by an authority of this network
}
