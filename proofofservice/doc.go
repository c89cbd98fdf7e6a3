// Package proofofservice is an inspector: it visits providers as ordinary clients
// do, at times nobody foresees, and reports what it saw.
//
// # Model
//
// Core is the state machine, without I/O: it is told of epochs, of the time and of
// what visits came to, and tells when to visit whom and what to post.
//
//	          rows due            all rows done, or            grace over
//	          ┌─────┐             half of the grace over
//	Begin ──► inspecting ────────────────► closed ──► committed ────────► revealing ──► revealed
//	                                         │            answers challenges from here on ──►
//	                                         └── the deadline passes: lost
//
// Shopper makes the visits: it opens a session, asks for something the service's
// owner published, pays, reads, closes and takes the provider's signed receipt.
// Inspector joins both to a ledger and to a Store, and runs. What a session, the
// ledger and the published content are is behind small interfaces: this package
// knows no other layer.
//
// # What counts
//
// A row says something of the provider only when the inspector is sure it is not
// its own doing (Core.Finish has the rules in order):
//
//   - A success needs the provider's receipt over the row's nonce. Without one the
//     visit failed: who delivers and will not sign cannot be told from who does not
//     deliver.
//   - A failure needs the control probe, to known-good nodes, to have worked within
//     30 s after it; else the row is void.
//   - When this host's clock stepped, everything that was under way is void.
//   - When the inspector, or the node that carried the visit, moved: what failed is
//     void; what measures time is void; a plain success stands.
//   - A visit that is still under way when half of the grace after its epoch is over
//     is cut, and void. One that could not begin within its window, since the program
//     did not run, is omitted.
//   - A session that dies since a provider moved: a provider of the mobile class is
//     asked once more at once, and the time without an answer is the gap; a fixed one
//     has failed.
//
// # What is published
//
// A service's owner publishes a Manifest of a file that all its providers serve over
// HTTP, signed with the service's key; any provider hands it out at ManifestPath. Of a
// service without one only that its sessions open is looked at. Who asks for a
// manifest, and for single blocks of the file, may be an inspector: owners should have
// ordinary clients do so as well.
//
// # What it does not do
//
// It does not find nodes that carry a visit, open accounts or payment channels, or
// know what a session is: the Dialer does. It judges nobody: package evidence has
// the arithmetic, the ledger the rules.
//
// # Disk
//
// Store is one Pebble database: m/format; e/ ‖ epoch u64 → the state of the epoch's
// report (see epoch_state.go); t/ ‖ service 32 ‖ node 32 ‖ ms u64 → kind u8 ‖
// outcome 16.
//
// # Concurrency
//
// Core belongs to one goroutine. Store, Shopper and Inspector may be used by many.
package proofofservice
