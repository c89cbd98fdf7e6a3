package guardian_test

import (
	"fmt"
	"os"

	"scn.alt/scn/naming/guardian"
)

// A program's main starts with the question whether it is the guardian.
func Example() {
	restorers := map[string]guardian.Restorer{
		"hosts": func(state []byte) error { return os.WriteFile("/etc/hosts", state, 0o644) },
	}
	if guardian.Requested() {
		os.Exit(guardian.Main(restorers))
	}
	g, err := guardian.Start(guardian.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer g.Close()
	// Say how to undo before doing.
	if err := g.Set("hosts", []byte("127.0.0.1 localhost\n")); err != nil {
		fmt.Println(err)
	}
	// … change the file, work, put it back …
	if err := g.Clear("hosts"); err != nil {
		fmt.Println(err)
	}
	fmt.Println("nothing stands")
	// Output: nothing stands
}
