// Command demonat shows that two hosts behind NATs reach each other, in under two
// minutes and without touching the machine it runs on: a download begins through a
// relay and goes on directly, both hosts move to other NATs at the same moment, and
// a NAT forgets everything and gives other ports. Beside it a packet every 2 ms
// shows what each of this costs. It exits with 0 only when every byte arrived as
// it was sent, over one connection, and no packet was lost to the switch from the
// relay to the direct way.
//
//	               founder ── core ── second        two public nodes, both relays
//	                           │
//	     ┌──────────────── internet ────────────────┐      10 ms each way
//	home router     cafe: router                flat: router   office router
//	                behind a carrier's          behind a carrier's
//	  client ⇄           ⇄                      provider ⇄         ⇄
//
// It needs root, or a kernel that lets users make namespaces, a TUN device and
// nftables.
package main

import (
	"time"

	"scn.alt/scn/conformance/overlay"
)

func main() {
	overlay.RunDemo(overlay.Demo{Name: "demo-nat", Size: 128, Limit: 3 * time.Minute, Show: show})
}
