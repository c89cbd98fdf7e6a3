package conformance

import (
	"slices"
	"strings"
	"testing"
)

// The lattice of imports, a statement of policy: what stands left of the arrow
// may import what stands right of it, of our own packages. A package takes the
// first line that matches it; a package no line matches is a mistake. Lines that
// begin with "let" name sets.
const lattice = `
	let vocabulary = routing/identity routing/record naming/name cashier/voucher proofofservice/evidence

	# Values that cross layers.
	routing/identity        ->
	routing/record          -> vocabulary
	naming/name             -> vocabulary
	cashier/voucher         -> vocabulary
	proofofservice/evidence -> vocabulary

	# The layers are siblings: none imports another.
	sal/path                -> vocabulary
	sal/relay               -> vocabulary
	sal/fec                 -> vocabulary
	sal/...                 -> sal/... vocabulary
	routing/...             -> routing/... vocabulary
	naming/...              -> naming/... vocabulary
	proofofservice/...      -> proofofservice/... vocabulary
	cashier/...             -> cashier/... vocabulary
	tun/...                 -> tun/... vocabulary

	# The whole joins them; the command knows the whole alone.
	daemon/cmd/scn          -> daemon/... vocabulary
	daemon/control          -> daemon/control vocabulary
	daemon/...              -> daemon/... sal/... routing/... naming/... tun/... proofofservice/... cashier/...

	# The proof may look at anything, and nothing looks at it.
	conformance/netns       -> conformance/wire
	conformance/wire        ->
	conformance/...         -> conformance/... daemon/... sal/... routing/... naming/... tun/... proofofservice/... cashier/...
`

// owners says who alone may import a heavy dependency directly. (Modules bring
// one another along: libp2p has quic-go in it, Pebble prometheus.)
const owners = `
	github.com/quic-go/quic-go           sal/... routing/...  QUIC is hidden behind sessions; routing gives libp2p's its keys
	github.com/libp2p                    routing/...          the DHT is an implementation of finding
	github.com/multiformats              routing/...          only libp2p speaks it
	github.com/miekg/dns                 naming/... conformance/...  DNS messages end at the naming layer
	github.com/cockroachdb/pebble        cashier/... proofofservice/...  the ledger, and what an inspector measured
	github.com/transparency-dev          cashier/tree         logs of RFC 6962 are kept in one place
	github.com/cometbft                  cashier/comet        one engine of two
	github.com/songgao/water             tun/...              the edge alone has a device
	github.com/vishvananda/netlink       tun/... sal/underlay conformance/...  who changes or watches the host's network
	github.com/vishvananda/netns         conformance/... sal/underlay  the product lives in one namespace, and watches no other
	github.com/prometheus                daemon/...           layers offer snapshots, the daemon exports them
	github.com/gorilla/websocket         sal/tunnel           UDP is carried over TCP in one place
	github.com/huin/goupnp               sal/portmap          routers are asked in one place
	github.com/jackpal/go-nat-pmp        sal/portmap          routers are asked in one place
	github.com/spf13                     daemon/cmd/scn       only the command has a command line
	github.com/oasisprotocol/curve25519-voi  routing/identity proofofservice/evidence  one signature rule
`

// unreachable says what must not be found below a package, however it gets
// there.
const unreachable = `
	sal/...      github.com/libp2p/go-libp2p      sessions know nothing of how a peer is found
	sal/...      github.com/cockroachdb/pebble    sessions keep nothing on disk
	tun/...      github.com/quic-go/quic-go       the edge sees net.Conn
	tun/...      github.com/libp2p/go-libp2p      the edge sees net.Conn
	naming/...   github.com/quic-go/quic-go       names are looked up through interfaces
	naming/...   github.com/libp2p/go-libp2p      names are looked up through interfaces
	proofofservice/...  github.com/quic-go/quic-go     a visit sees net.Conn
	proofofservice/...  github.com/libp2p/go-libp2p    the daemon tells of nodes
	proofofservice/evidence  github.com/cockroachdb/pebble  the vocabulary keeps nothing
	cashier/...  github.com/quic-go/quic-go       the ledger's API is served on any net.Listener
	cashier/...  github.com/libp2p/go-libp2p      the ledger's API is served on any net.Listener
	routing/...  github.com/cockroachdb/pebble    records live in the DHT
	daemon/control  github.com/quic-go/quic-go    the control client is small enough for any program
	sal/path     net                              the path machine is sans-IO
	sal/relay    net                              forwarding is decided without I/O
	sal/fec      net                              codes are pure
	routing/identity  net/http                    the vocabulary does no I/O
	routing/record    net/http                    the vocabulary does no I/O
	naming/name       net/http                    the vocabulary does no I/O
`

// pure says which standard packages a package must not import directly.
const pure = `
	sal/path                os net os/exec sync log/slog math/rand   no clock, socket, lock or goroutine in the machine
	sal/relay               os net os/exec log/slog math/rand        no clock, socket or goroutine in the decisions
	sal/fec                 os net os/exec sync log/slog             a code, no more
	routing/identity        net os/exec net/http sync log/slog       values that cross layers
	routing/record          net os/exec net/http sync log/slog       values that cross layers
	naming/name             net os/exec net/http sync log/slog       values that cross layers
	daemon/access           os net os/exec net/http sync log/slog    rules decide by values alone
	cashier/tree            os net os/exec net/http log/slog         proofs are judged by values alone
	cashier/voucher         net os/exec net/http sync log/slog       values that cross layers
	proofofservice/evidence net os/exec net/http sync log/slog       values that cross layers
`

// rules splits a table into its lines, without comments.
func rules(table string) [][]string {
	var lines [][]string
	for line := range strings.Lines(table) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, fields)
		}
	}
	return lines
}

type edge struct {
	from string
	to   []string
}

func parseLattice(t *testing.T) []edge {
	t.Helper()
	sets := make(map[string][]string)
	var edges []edge
	for _, line := range rules(lattice) {
		if line[0] == "let" {
			sets[line[1]] = line[3:]
			continue
		}
		if line[1] != "->" {
			t.Fatalf("the lattice has no arrow in %q", line)
		}
		e := edge{from: line[0]}
		for _, to := range line[2:] {
			if set, ok := sets[to]; ok {
				e.to = append(e.to, set...)
			} else {
				e.to = append(e.to, to)
			}
		}
		edges = append(edges, e)
	}
	return edges
}

// Reference: DESIGN §2, STYLE §1: no layer imports another layer.
func TestLattice(t *testing.T) {
	edges := parseLattice(t)
	for _, p := range packages(t) {
		from, _ := short(p.ImportPath)
		i := slices.IndexFunc(edges, func(e edge) bool { return matches(e.from, from) })
		if i < 0 {
			t.Errorf("%s has no place in the lattice", from)
			continue
		}
		for _, kind := range []struct {
			name    string
			imports []string
		}{{"", p.Imports}, {" (in a test)", p.TestImports}, {" (in a test)", p.XTestImports}} {
			for _, path := range kind.imports {
				to, own := short(path)
				if own && to != from && !matchesAny(edges[i].to, to) {
					t.Errorf("%s imports %s%s; it may import only %v", from, to, kind.name, edges[i].to)
				}
			}
		}
	}
}

// Reference: STYLE §1: one heavy dependency, one owner.
func TestHeavyDependenciesHaveOneOwner(t *testing.T) {
	all := packages(t)
	for _, line := range rules(owners) {
		heavy := line[0]
		var allowed []string
		for _, f := range line[1:] {
			if !strings.HasSuffix(f, "/...") && !strings.Contains(f, "/") {
				break
			}
			allowed = append(allowed, f)
		}
		reason := strings.Join(line[1+len(allowed):], " ")
		for _, p := range all {
			from, _ := short(p.ImportPath)
			for _, path := range p.Imports {
				if (path == heavy || strings.HasPrefix(path, heavy+"/")) && !matchesAny(allowed, from) {
					t.Errorf("%s imports %s; only %v may: %s", from, path, allowed, reason)
				}
			}
		}
	}
}

// Reference: DESIGN §2: what must not come along by the back door either.
func TestUnreachable(t *testing.T) {
	all := packages(t)
	for _, line := range rules(unreachable) {
		pattern, forbidden, reason := line[0], line[1], strings.Join(line[2:], " ")
		for _, p := range all {
			from, _ := short(p.ImportPath)
			if !matches(pattern, from) {
				continue
			}
			for _, d := range p.Deps {
				if d == forbidden || strings.HasPrefix(d, forbidden+"/") && strings.Contains(forbidden, ".") {
					t.Errorf("%s depends on %s: %s", from, d, reason)
				}
			}
		}
	}
}

// Reference: DESIGN §2, §5: vocabulary and protocol cores do no I/O.
func TestPurePackages(t *testing.T) {
	all := packages(t)
	standard := func(s string) bool {
		return slices.Contains([]string{"os", "net", "os/exec", "net/http", "sync", "log/slog", "math/rand"}, s)
	}
	for _, line := range rules(pure) {
		pattern := line[0]
		n := 1
		for n < len(line) && standard(line[n]) {
			n++
		}
		forbidden, reason := line[1:n], strings.Join(line[n:], " ")
		for _, p := range all {
			from, _ := short(p.ImportPath)
			if !matches(pattern, from) {
				continue
			}
			for _, path := range p.Imports {
				if slices.Contains(forbidden, path) {
					t.Errorf("%s imports %s: %s", from, path, reason)
				}
			}
		}
	}
}

// The checks must be able to fail.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"sal", "sal", true},
		{"sal", "sal/path", false},
		{"sal/...", "sal", true},
		{"sal/...", "sal/path", true},
		{"sal/...", "salt", false},
		{"daemon/cmd/scn", "daemon/cmd/scn", true},
	} {
		if got := matches(c.pattern, c.path); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
	edges := parseLattice(t)
	i := slices.IndexFunc(edges, func(e edge) bool { return matches(e.from, "sal") })
	if i < 0 || matchesAny(edges[i].to, "routing") || !matchesAny(edges[i].to, "routing/identity") {
		t.Errorf("the lattice says of sal: %+v", edges)
	}
}
