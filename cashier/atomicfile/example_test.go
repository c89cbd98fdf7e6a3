package atomicfile_test

import (
	"fmt"
	"os"
	"path/filepath"

	"scn.alt/scn/cashier/atomicfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "atomicfile")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "state")
	if err := atomicfile.Write(path, []byte("three channels")); err != nil {
		fmt.Println(err)
		return
	}
	b, err := atomicfile.Read(path, 1<<20)
	fmt.Println(string(b), err)
	// Output: three channels <nil>
}
