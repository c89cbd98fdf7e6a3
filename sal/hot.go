package sal

import "time"

// hotFor is how long after a packet of its a peer counts as certainly there: shorter
// than any process takes to die and start again.
const hotFor = 25 * time.Millisecond

// hot reports whether the peer was heard from just now.
func (l *link) hot() bool {
	heard := l.assoc.Info().LastReceived
	return heard.IsZero() || time.Since(heard) < hotFor
}
