// Package netns builds small internets on one machine for tests, benchmarks and
// the demo: hosts, switches, routers and NATs out of Linux namespaces, on which
// real programs run, move and lose their links. It needs no Docker and, where
// the kernel allows user namespaces, no root.
//
// # Model
//
//	Lab ── Switch "lan1" 10.1.0.0/24 ── Link ── Host "client"
//	 │         │
//	 │         └── Link ── Host "r" (a router: it forwards)
//	 │         ┌── Link ──┘
//	 └──── Switch "lan2" 10.2.0.0/24 ── Link ── Host "provider"
//
// A [Switch] is a bridge in a network namespace of the lab's own, a [Link] a
// veth pair from it to a host. A [Host] has network, mount and UTS namespaces of
// its own: in them its interfaces and routes, an /etc with its own resolv.conf,
// hosts and nsswitch.conf, an empty /run and a /sys of its own. Everything else
// of the file system is the machine's.
//
// # Isolation
//
// [Enter] (or [Main] in a TestMain) runs the program again inside new network,
// mount, PID, IPC and UTS namespaces, and in a new user namespace when it is not
// root. Nothing a lab does is seen outside, and when the program ends, however
// it ends, the kernel takes all processes, interfaces, mounts and files of its
// labs away with the PID namespace.
//
// # Errors
//
// Building a topology returns no errors: what goes wrong is told to
// Config.Fatal, which must not return (testing.TB's Fatalf does not). Commands
// and connections return errors as usual.
//
// # Concurrency
//
// Methods of different hosts and links may be called from different goroutines,
// so that two hosts move at once. One link is one goroutine's at a time.
//
// # What it does not do
//
// It runs on Linux only. It simulates no time: delay, loss and rate come from
// package wire between two switches (see [Lab.Join]).
package netns
