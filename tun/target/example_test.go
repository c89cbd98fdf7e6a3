package target_test

import (
	"fmt"

	"scn.alt/scn/tun/target"
)

func ExampleParseAll() {
	targets, err := target.ParseAll([]string{"80=tcp://127.0.0.1:8080", "udp://127.0.0.1:5353"})
	fmt.Println(targets, err)
	_, err = target.ParseAll([]string{"unix:///run/app.sock"})
	fmt.Println(err)
	// Output:
	// [80=tcp://127.0.0.1:8080 5353=udp://127.0.0.1:5353] <nil>
	// target "unix:///run/app.sock": not a target: a unix target needs the service's port: PORT=unix:///PATH
}
