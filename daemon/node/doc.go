// Package node is a whole node without TUN and command line: what a Go program
// embeds to dial and provide services by name or key.
//
//	n, err := node.Open(node.Config{Dir: "/var/lib/app/scn"}) // made by node.Init
//	defer n.Close()
//	go n.Run(ctx)
//	conn, err := n.Dial(ctx, "files.top", 80) // a net.Conn that survives moves
//
// # Model
//
// Open takes the directory, binds the node's UDP ports and starts the session
// layer and the DHT; Run keeps records, names and services alive until its context
// ends. A node that is the network's authority also keeps the ledger of names and
// answers for it, as a service under its own key on port LedgerPort.
//
//	sal       sessions       asks routing where a service's providers are
//	routing   the DHT        is told by sal when this host's addresses change
//	naming    names          asks the DHT and the authority's ledger
//	cashier   the ledger     served and dialled over sal
//
// # What it does not do
//
// It makes no device, no DNS server and no control socket; that is package daemon.
//
// # Concurrency
//
// A Node may be used by many goroutines. Two nodes may live in one process, each
// with a directory of its own.
package node
