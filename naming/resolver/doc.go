// Package resolver tells the host's resolver about our DNS server, and puts
// everything back.
//
// # Modes
//
//	resolved    systemd-resolved, over D-Bus: our names are routed to our link's
//	            server, nothing else is. resolved forgets it with the link.
//	resolvconf  openresolv, or Debian's resolvconf: our server is one more record.
//	            Debian's keeps others' servers behind ours, so auto takes it only
//	            with Config.Fallback, see below.
//	file        /etc/resolv.conf itself; every name of the host then comes to us.
//	off         nothing is touched; the host's servers are only read.
//
// auto takes the first of these that the host uses.
//
// # The file
//
// What is written says so in its first line, names the run that wrote it, and
// carries what was there before in comments, so that it is told from others' files
// and can be undone even when every other trace is lost:
//
//	# Written by scn for its overlay names, run 0123456789abcdef.
//	# ...
//	#link ../run/systemd/resolve/stub-resolv.conf
//	#| nameserver 192.0.2.1
//	nameserver 198.18.0.1
//	search example.com
//
// It replaces the old file by a rename. A symbolic link is replaced and made again;
// a bind mount, which cannot be renamed, is written in place. When somebody else
// writes the file, that becomes the host's own setting from then on: its servers
// are learned, and ours is put before them again.
//
// # No servers behind ours
//
// By default our server is the only one in the file. With others behind it, the C
// library (seen with glibc: getent and curl) and Go's resolver ask them after our
// SERVFAIL, musl even at the same time: a name whose lookup was blocked would go to
// the Internet after all, and names below scn.alt would leak. A daemon that is
// killed is cleaned up after by the guardian. Config.Fallback lists them
// nevertheless.
//
// # After a crash
//
// What to undo is written to a state file before anything is done, told to the
// guardian, and forgotten once undone. Restore (the guardian) and Repair (the next
// start) undo it, unless a later run is in charge: each run has its number, and a
// lock keeps them apart.
//
// # Concurrency
//
// A Resolver is safe for concurrent use.
package resolver
