// Package naming turns names into services and answers for them: the rules that
// say what a name means, the memory of names once seen, and a local DNS server.
//
// # Model
//
// Names decides what a host name means. A name of the zone ("top" unless the
// network says otherwise) or of scn.alt is looked at by its last label before the
// zone; everything below a registered name belongs to the name's owner.
//
//	label                           zone "top"              scn.alt
//	56 base32 characters            the service itself      the service itself
//	56 letters and digits, mistyped NXDOMAIN, EDE text      NXDOMAIN, EDE text
//	a petname                       its service             its service
//	registered                      its service             its service
//	authentically not registered    the host's upstream     NXDOMAIN
//	unknown, but seen here before   SERVFAIL                SERVFAIL
//	unknown, never seen             by setting, upstream    SERVFAIL
//	not a name by the grammar       the host's upstream     NXDOMAIN
//
// Anything outside the zones is forwarded to the host's own servers (package
// naming/upstream). Nothing below scn.alt, and no ID, ever goes upstream.
//
// Server answers DNS over UDP and TCP. An answer made once is kept in its wire
// form and given again without waiting; past its freshness it is still given for a
// while and made anew behind the client's back.
//
//	datagram ──► arrival filter ──► wire cache ──hit──► reply
//	                                   │ miss
//	                                   ▼
//	                    Names ──► Registry       forward ──► naming/upstream
//	                      │
//	                      ▼
//	                    Services (is there a record?) ──► Addresses (virtual address)
//
// # What it does not do
//
// It keeps no cache of upstream answers, does no DNSSEC and validates nothing for
// its clients. It changes no setting of the host: that is naming/resolver, undone
// by naming/guardian if the daemon is killed.
//
// # Concurrency
//
// Names and Server are safe for concurrent use. Every goroutine is bounded in
// number and ends before Close returns.
//
// # Standards
//
// RFC 1034, 1035, 2308 (negative answers), 2782 (SRV), 3597, 6761, 6891 (EDNS0),
// 7766 (TCP), 8020, 8482 (ANY), 8767 (stale answers), 8914 (extended errors),
// 9460 (SVCB and HTTPS), 9476 (.alt), 9619 (one question).
package naming
