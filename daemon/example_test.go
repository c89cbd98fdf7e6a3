package daemon_test

import (
	"fmt"

	"scn.alt/scn/daemon"
)

// Settings are strict: an unknown key is an error that names its line, and all
// faults are reported together before anything is touched.
func ExampleSettings_Overlay() {
	s := daemon.DefaultSettings()
	fmt.Println(s.Overlay([]byte("listen = \"[::]:47700\"\nlisten_on = \"eth0\"\n")))
	// Output:
	// line 2: unknown key "listen_on": "scn up --help" names every key
}
