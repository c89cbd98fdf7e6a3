// Package suite shows with real programs on hosts that move that the overlay
// keeps its promise. It holds tests only; each says which sentence it proves.
//
// The tests run real scn daemons with real TUN devices and real DNS on the hosts
// of a netns lab. A program that is missing, or a kernel that refuses, skips a
// test with the reason; with CI=true it fails.
//
// What it does not do: it measures no speed beside others; package bench does.
package suite
