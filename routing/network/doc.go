// Package network reads, checks and writes the network file: the one text that
// describes a network, signed by its founder.
//
// # Model
//
// A network's ID is its founder's public key, so whoever has the ID can check
// the file and needs nobody's word for it. The file is numbered; the higher
// sequence replaces the lower one. Its newest version also lives in the DHT, so
// that a bootstrap node that moved strands nobody.
//
// # Format
//
// TOML, at most MaxSize bytes, whose last line is the signature:
//
//	network = "…56 characters…"
//	name = "home"
//	sequence = 1
//	zone = "top"
//	admission = "open"
//	members = []
//	authorities = [
//	  "…56 characters…",
//	]
//	bootstrap = [
//	  { node = "…56 characters…", addresses = ["192.0.2.1:4600", "[2001:db8::1]:4600"] },
//	]
//
//	[parameters]
//	real_top_proof = true
//	signature = "…86 characters of base64…"
//
// The signature covers every byte before its line, comments included, under the
// domain "scn/network/v1" and the type "network". It is taken off before the
// rest is read as TOML, so it never belongs to a table. Unknown keys are faults,
// except below [parameters], which holds what later versions agree on: booleans,
// integers and strings.
//
// # What it does not do
//
// It reads no file, asks no clock and starts no goroutine. Which version is
// known, and where it is kept, is its caller's business.
package network
