// Command demo shows what the overlay does, in under two minutes and without
// touching the machine it runs on: three hosts and a router made of namespaces, a
// file server reached by name, and one download that goes on while the client
// moves, the provider moves, both move, and the network is gone for 20 seconds.
// It exits with 0 only when every byte arrived as it was sent, over one
// connection.
//
//	           ┌──────── router ────────┐
//	10.0.0.0/24│   10.1 … 10.2   10.3 … 10.4
//	   authority     client ⇄       provider ⇄
//
// It needs root, or a kernel that lets users make namespaces, and a TUN device.
package main

import (
	"time"

	"scn.alt/scn/conformance/overlay"
)

func main() {
	overlay.RunDemo(overlay.Demo{Name: "demo", Size: 208, Limit: 5 * time.Minute, Show: show})
}
