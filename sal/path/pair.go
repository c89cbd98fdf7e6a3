package path

import (
	"net/netip"
	"time"
)

// pair is one route and what is known of it.
type pair struct {
	route   Route
	address *address // nil while the address table has no room
	way     way
	// peerCost is what the peer thinks of its link.
	peerCost uint8
	// implicit is set when the pair was made because something came by it, not
	// because the lists have it.
	implicit bool

	asking outstanding
	// attempts counts challenges since the last echo or since a burst began.
	attempts int
	// due is when the next challenge goes; zero if none.
	due time.Time
	// challenged and validated are when the last challenge went and when the last
	// echo came.
	challenged, validated time.Time
	// asked is when the first challenge went that no echo came after.
	asked time.Time
	// quiet is how long nothing had passed when asked began; observed is how the peer
	// saw us last.
	quiet    time.Duration
	observed netip.AddrPort
	// failed is when the socket last refused to send here.
	failed time.Time
	// heard is when something authentic last came by it.
	heard time.Time

	rtt roundTrip
	mtu mtuSearch
}

func (m *Machine) newPair(r Route, a *address) *pair {
	return &pair{route: r, address: a, way: m.wayOf(r.Remote), peerCost: CostNone}
}

// remember notes a challenge as sent, and for how long nothing had passed before.
func (p *pair) remember(now time.Time, nonce uint64, quiet time.Duration) {
	p.asking.add(now, nonce)
	if p.asked.IsZero() {
		p.asked = now
		p.quiet = quiet
	}
	p.challenged = now
	p.attempts++
}

// shares reports whether what breaks p is likely to break q: they have a link or a
// relay in common.
func (p *pair) shares(q *pair) bool {
	return p.way == q.way && p.route.Link == q.route.Link && (p.way == wayDirect || p.route.Remote == q.route.Remote)
}

// lastSign is when something of the peer last came by it.
func (p *pair) lastSign() time.Time { return later(p.heard, p.validated) }

// restart makes the next challenge go at once and the back-off begin anew.
func (p *pair) restart(now time.Time) {
	p.attempts = 0
	p.due = now
}

// roundTrip estimates the round trip of a pair.
type roundTrip struct {
	smooth time.Duration // for timers (RFC 6298 weights)
	least  time.Duration // of the last samples: what queues do not disturb
	// samples counts those in least; measured is when the last one came.
	samples  int
	total    int
	measured time.Time
}

const (
	// leastSamples and leastLifetime say when least begins anew, so that a path
	// that became slower is noticed.
	leastSamples  = 16
	leastLifetime = 2 * time.Minute
	// earlySamples may have waited for neighbour discovery somewhere on the way,
	// which takes a second when a packet of it is lost: a lower one counts at once.
	earlySamples = 4
)

func (r *roundTrip) add(now time.Time, sample time.Duration) {
	sample = max(sample, time.Microsecond)
	if r.total == 0 || r.total < earlySamples && sample < r.smooth {
		r.smooth = sample
	} else {
		r.smooth += (sample - r.smooth) / 8
	}
	if r.samples == 0 || r.samples >= leastSamples || now.Sub(r.measured) > leastLifetime {
		r.least, r.samples = sample, 0
	}
	r.least = min(r.least, sample)
	r.samples++
	r.total++
	r.measured = now
}
