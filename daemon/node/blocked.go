package node

import "time"

const (
	// tunnelAfter is how long nothing may come by UDP before a tunnel is opened:
	// more than a handshake takes, even by satellite, and enough less than a name
	// is waited for (3 s) that the first question asked is answered.
	tunnelAfter = 2 * time.Second
	// tunnelUnused is how long UDP must have worked before the tunnels are closed.
	tunnelUnused = time.Minute
)

// blockage decides when tunnels are needed, by what is seen of UDP. It is sans-IO:
// the time comes with each call.
type blockage struct {
	blind time.Time // since when UDP has not been seen to work; zero while it works
	fine  time.Time // since when tunnels are of no use; zero while they are
	open  bool
}

// changed starts anew: what did not work in the last network may in this one.
func (b *blockage) changed(now time.Time) {
	if !b.blind.IsZero() {
		b.blind = now
	}
}

// step reports whether tunnels are needed. works says that UDP carries something
// now, used that a tunnel does.
func (b *blockage) step(now time.Time, works, used bool) bool {
	switch {
	case works:
		b.blind = time.Time{}
	case b.blind.IsZero():
		b.blind = now
	}
	switch {
	case !works || used:
		b.fine = time.Time{}
	case b.fine.IsZero():
		b.fine = now
	}
	switch {
	case !b.open:
		b.open = !b.blind.IsZero() && now.Sub(b.blind) >= tunnelAfter
	case !b.fine.IsZero():
		b.open = now.Sub(b.fine) < tunnelUnused
	}
	return b.open
}
