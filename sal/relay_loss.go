package sal

import (
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/homes"
)

const (
	// lossPackets of a second must have been sent for their loss to say anything;
	// lossPart of them lost in lossSeconds seconds in a row are no congestion.
	lossPackets = 8
	lossPart    = 4 // one in
	lossSeconds = 2
	// accuseEvery is how often at most a relay is blamed for that: it may be the peer's
	// line, or this host's own.
	accuseEvery = 30 * time.Second
	// accusedFor is how long a relay is taken for lossy whatever its probes say: it may
	// treat them better than the rest. Another is heard within that, if there is one.
	accusedFor = 3 * time.Second
)

// lossWatch follows what QUIC loses on a connection that goes through a relay. The
// relays' loop owns it.
type lossWatch struct {
	via        identity.NodeID
	sent, lost uint64
	bad        int // seconds in a row
}

// look takes the counters of another second and reports whether too much was lost in
// the last ones, all through the same relay.
func (w *lossWatch) look(via identity.NodeID, sent, lost uint64) bool {
	newSent, newLost := sent-w.sent, lost-w.lost
	same := w.via == via
	w.via, w.sent, w.lost = via, sent, lost
	switch {
	case !same:
		w.bad = 0
	case newSent < lossPackets:
	case newLost*lossPart >= newSent:
		w.bad++
	default:
		w.bad = 0
	}
	return w.bad >= lossSeconds
}

// verdictLocked says how a relay does: by its probes, and by what connections lose.
func (r *relays) verdictLocked(now time.Time, g *registration) homes.Ailment {
	if r.busy.lossy[g.relay] && now.Sub(r.accused) >= accuseEvery {
		r.accused, g.accused = now, now.Add(accusedFor)
	}
	if verdict := g.health.Verdict(); verdict != homes.Well || !now.Before(g.accused) {
		return verdict
	}
	return homes.Lossy
}
