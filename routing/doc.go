// Package routing finds where services and nodes are now, and says where this node
// is: a private Kademlia DHT that holds records signed by those they are about.
//
// # Model
//
// Identity and location are apart. A ServiceRecord says which nodes may provide a
// service and changes rarely; a NodeRecord says at which addresses a node is and is
// put anew whenever it moves. A lookup joins both. Names and the network file lie
// in the same DHT:
//
//	/scn/node/<NodeID>        record.NodeRecord     signed by the node
//	/scn/svc/<ServiceID>      record.ServiceRecord  signed by the service
//	/scn/name/<name>          name.Record           signed by an authority
//	/scn/network/<NetworkID>  network.File          signed by the founder
//
// Every record is signed by the key in its DHT key, or by one the network file
// names, so a storing node can hide a record but not forge one. It refuses what is
// signed by another key, altered, expired, valid for too long, too large, or older
// than what it holds; what it holds is bounded, and the records farthest from it in
// the DHT's metric are the first to go.
//
// # Finding
//
// What was found is served at once and asked for again behind (Resolve, Lookup…),
// and the first valid value is handed on without waiting for the lookup's end: with
// a fifth of the nodes silently dead the first value takes milliseconds, the end
// seconds. Lookups for one key are shared and bounded in number and time.
//
// # Publishing
//
// A record is put at the nodes closest to its key, each given a short time, and
// acknowledgements are counted. Nobody but its keepers puts a record again: the
// Router does so on a schedule for its own and for those it was given, once more
// shortly after each change, and to nodes that come in. When somebody else wrote the
// same service record, both are joined under a higher sequence number. Sequence
// numbers never run backwards, whatever happens to the disk or the clock.
//
// # Staying in
//
// The Router connects to bootstrap nodes and to peers seen in earlier lives
// whenever no peer is left, with back-off. When this node moves it closes libp2p's
// connections from the address that is gone and makes new ones at once: libp2p by
// itself would notice up to a minute later. Dials under way begin anew, since a QUIC
// handshake is bound to the address it began from. Whoever is reached first is told
// the new record and asked for what is being looked for.
//
// # What it does not do
//
// It does not tell peers of a move (package sal does, in a round trip), choose among
// providers, traverse NATs, or read or write the network file on disk.
//
// # Wire
//
// libp2p over QUIC on the UDP port after the SAL's, protocol
// /scn/<NetworkID>/kad/1.0.0, with the node's own key as the peer identity.
package routing
