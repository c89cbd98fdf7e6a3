// Package address gives each service its virtual addresses on this host.
//
// # Model
//
// A service's IPv6 address is a function of the network and the service, the same
// everywhere. Its IPv4 address comes from a pool of this host: the first try is a
// function of the service too, so that a lost state file seldom changes an address,
// then the next free one. A [Pool] remembers both in a journal that survives kill -9
// at any byte, and gives an address to another service only when it has rested
// for [Rest] — an application or a cache that still holds it must never reach somebody
// else.
//
// # Journal
//
// One line per change, each with a checksum; a torn last line is cut off:
//
//	<crc32c, 8 hex digits> <unix seconds> <IPv4 address or -> <service ID>
//
// A later line for a service replaces the earlier one; the time is when the service
// was last used. A line for an address another service had takes it over. The file
// is rewritten whole, by rename, at Open and when it has grown to twice its need.
//
// # What it does not do
//
// It touches no device and no route. It starts no goroutine. A Pool may be used by
// many goroutines.
package address
