package tree_test

import (
	"fmt"

	"scn.alt/scn/cashier/tree"
)

// A root is all that is needed to check what somebody else says of a key.
func Example() {
	var m tree.Map
	root := m.Stage([]tree.Change{
		tree.Put([]byte("files"), []byte("service 1")),
		tree.Put([]byte("mail"), []byte("service 2")),
	})
	m.Commit()

	there, _ := tree.ParseProof(m.Prove([]byte("files")).Append(nil))
	fmt.Println(there.Present(root, []byte("files"), []byte("service 1")))
	fmt.Println(there.Present(root, []byte("files"), []byte("service 2")))
	fmt.Println(m.Prove([]byte("shop")).Absent(root, []byte("shop")))
	// Output:
	// <nil>
	// tree: proof does not hold: it leads to another root
	// <nil>
}
