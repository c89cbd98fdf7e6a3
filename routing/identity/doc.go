// Package identity holds the keys and identifiers of the overlay: node,
// service, account and network IDs, their text form, and the one signature
// rule and envelope under which everything signed travels.
//
// # Model
//
// A node, a service, an account and a network are each an Ed25519 key pair, and
// the ID is the public key itself (32 bytes). Whoever holds an ID can verify
// what its owner signed, and needs nobody's word for it.
//
// # Text form
//
// An ID is written as base32 (RFC 4648 §6, lower case, no padding) of
//
//	key (32 bytes) ‖ checksum (2 bytes) ‖ version (1 byte)
//
// which is 56 characters and so fits one DNS label (RFC 1035 §2.3.4). The version
// byte tells a node ID from a service ID; the checksum is the head of
// SHA-256("scn id checksum" ‖ key ‖ version), so a mistyped ID is refused
// instead of addressing somebody else.
//
// # Signatures
//
// A signature covers domain ‖ type ‖ payload, each prefixed with its length, so
// bytes signed for one purpose never verify for another. The bytes received are
// the bytes verified: nothing is re-encoded. Verification follows ZIP-215, the
// same rule for one signature and for a batch, so that two nodes never disagree.
//
// # What it does not do
//
// It does no I/O beyond reading the randomness it is given, starts no goroutine
// and keeps no state. Every function may be called concurrently.
package identity
