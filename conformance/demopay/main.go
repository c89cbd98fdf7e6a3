// Command demopay shows how a service is paid for, in under two minutes and without
// touching the machine it runs on: a price, a download of 200 MB that is paid while it
// runs and while its provider moves, one channel, one bill, one settlement; and the
// sum of all balances as it was. Then two providers of different price, chosen as the
// client's settings say; a client whose budget ends, which gets at most one window
// more; and how fast a paid download is beside a free one.
//
//	             founder ── core ── second       the ledger; two public nodes
//	                         │
//	    ┌──────────────── internet ────────────────┐
//	  home: 100 Mbit/s, 2 ms                rack1, rack2     far: 20 ms
//	client   miser                          provider ⇄        discount
//
// It exits with 0 only when all of it is so. It needs root, or a kernel that lets users
// make namespaces, and a TUN device.
package main

import (
	"time"

	"scn.alt/scn/conformance/overlay"
)

func main() {
	// 191 MiB are 200 MB.
	overlay.RunDemo(overlay.Demo{Name: "demo-pay", Size: 191, Limit: 3 * time.Minute, Show: show})
}
