package netns_test

import (
	"context"
	"fmt"
	"log"

	"scn.alt/scn/conformance/netns"
)

// Two networks, a router, and a laptop that is carried from one to the other.
// (It needs a kernel that allows namespaces, so its output is not checked.)
func Example() {
	if err := netns.Enter(); err != nil { // first thing in main
		log.Fatal(err)
	}
	lab, err := netns.Open(netns.Config{Fatal: log.Fatalf})
	if err != nil {
		log.Fatal(err)
	}
	defer lab.Close()

	home := lab.Switch("home", "10.1.0.0/24")
	office := lab.Switch("office", "10.2.0.0/24", "fd10:2::/64")
	router := lab.Router("router")
	router.Attach(home, 1)
	router.Attach(office, 1)
	laptop, server := lab.Host("laptop"), lab.Host("server")
	link := laptop.Attach(home, 2)
	server.Attach(office, 2)

	link.Move(office, 3)
	out, err := laptop.Command(context.Background(), "ping", "-c", "1", "10.2.0.2").Output()
	fmt.Printf("%s %v\n", out, err)
}
