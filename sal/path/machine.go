package path

import "time"

// Machine is one end of an association; see the package comment. It must not be
// used by two goroutines at once.
type Machine struct {
	cfg     Config
	actions []Action
}

// Info is a snapshot of the data path.
type Info struct {
	// Route is the route in use, or last used.
	Route Route
	// RTT is the smoothed round trip of the route, 0 if not measured yet.
	RTT time.Duration
	// MTU is the largest IP packet known to pass.
	MTU int
	// Lost is set while no path is known to work.
	Lost bool
}

// Metrics counts what a machine did.
type Metrics struct {
	// Moves counts changes of the data path, Searches how often it was lost.
	Moves, Searches uint64
	// Sent and Received count path messages, the latter only authentic ones.
	Sent, Received uint64
	// Malformed, Forged and Replayed count what was dropped: not a message for
	// this machine, not sealed by the peer, or seen before.
	Malformed, Forged, Replayed uint64
	// Withheld counts messages not sent because an address is not proved.
	Withheld uint64
}

// New starts a machine on the route the handshake went over. It yields actions
// at once. The only errors are those of cfg.Validate.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Machine{cfg: cfg.withDefaults()}, nil
}

// Step tells the machine what happened. Time must not run backwards; if it does,
// the latest time seen counts.
func (m *Machine) Step(now time.Time, ev Event) {}

// Deadline returns when the next Tick is due, or the zero time if none is.
func (m *Machine) Deadline() time.Time { return time.Time{} }

// Take returns the actions not yet taken, which then belong to the caller.
func (m *Machine) Take() []Action {
	a := m.actions
	m.actions = nil
	return a
}

// Index returns the receiver index the peer's messages to this machine bear.
func (m *Machine) Index() uint64 { return 0 }

// Info returns a snapshot of the data path.
func (m *Machine) Info() Info { return Info{} }

// Metrics returns a snapshot of the counters.
func (m *Machine) Metrics() Metrics { return Metrics{} }

// Index returns the receiver index of a datagram that looks like a path message,
// to find its machine by.
func Index(datagram []byte) (index uint64, ok bool) { return 0, false }
