package homes

import (
	"math/rand/v2"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

const (
	// DefaultWant is how many home relays a node keeps.
	DefaultWant = 3
	// MaxKnown bounds the relays remembered.
	MaxKnown = 64
	// maxTrying bounds the registrations in the making.
	maxTrying = 4
	// patience is how long one in the making may take before another is tried
	// beside it.
	patience = 500 * time.Millisecond
	// firstRetry and lastRetry bound the back-off of a relay that failed.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 5 * time.Minute
	// refusedRetry and lastRefused bound it for one that refused.
	refusedRetry = time.Minute
	lastRefused  = time.Hour
	// lossyRetry is how long a relay that lost packets is passed over.
	lossyRetry = 5 * time.Minute
	// proven is how long a home must last for its failures to be forgotten.
	proven = time.Minute
	// linger is how long the last home is still told to others after it ended: it
	// may have restarted.
	linger = 10 * time.Second
	// firstLook, nextLook and lastLook are the pauses between measurements of relays
	// that are no homes.
	firstLook = 3 * time.Second
	nextLook  = 30 * time.Second
	lastLook  = 15 * time.Minute
	// remember is how long a measurement holds.
	remember = time.Hour
	// guess is what a relay never measured is taken for.
	guess = 100 * time.Millisecond
)

// Source says how a relay became known. What is higher is kept longer.
type Source uint8

// The sources of a relay.
const (
	// FromRecord relays were named in a node's record.
	FromRecord Source = iota
	// FromRelay relays were named by a relay, or by themselves.
	FromRelay
	// FromNetwork relays are bootstrap nodes of the network.
	FromNetwork
)

// Ailment says what is wrong with a home.
type Ailment uint8

// The ailments.
const (
	// Well is none.
	Well Ailment = iota
	// Silent homes forward nothing.
	Silent
	// Lossy homes lose much of what they should forward.
	Lossy
)

// String returns the ailment in a word.
func (a Ailment) String() string {
	return [...]string{"well", "silent", "lossy"}[min(a, Lossy)]
}

// Action is something the shell must do, in order: [Register], [Drop], [Check] or
// [Homes].
type Action interface{ action() }

// Register asks for a registration that may take so long; the answer is Registered,
// Failed or Refused.
type Register struct {
	Relay   identity.NodeID
	Timeout time.Duration
}

// Drop says that a registration, made or in the making, is not needed any more. It is
// not to be answered.
type Drop struct{ Relay identity.NodeID }

// Check asks for the health of the homes to be looked at now.
type Check struct{}

// Homes gives the home relays to be told to others, whenever they change.
type Homes struct{ Relays []identity.NodeID }

func (Register) action() {}
func (Drop) action()     {}
func (Check) action()    {}
func (Homes) action()    {}

// Config configures a Machine.
type Config struct {
	// Want is how many homes to keep. Default DefaultWant.
	Want int
	// Seed makes the choice among relays not measured; nodes should differ in it.
	Seed uint64
}

type state uint8

const (
	known state = iota
	trying
	home
)

// relay is what is known of one.
type relay struct {
	id       identity.NodeID
	source   Source
	state    state
	since    time.Time     // in this state
	rtt      time.Duration // 0: not measured
	measured time.Time
	heard    time.Time // a home's last sign of life
	ailment  Ailment
	ailing   time.Time // since when
	fails    int
	retry    time.Time // not before
	luck     uint64    // orders those of which nothing is known
}

// Machine chooses the home relays; see the package's comment.
type Machine struct {
	want    int
	random  *rand.Rand
	relays  []*relay
	actions []Action
	told    []identity.NodeID // by Homes
	empty   time.Time         // since when there is no home although some were told
	due     time.Time         // when to settle again
	look    time.Time         // when to measure another
	pause   time.Duration     // between looks
}

// New makes a Machine that knows no relay.
func New(cfg Config) *Machine {
	if cfg.Want <= 0 {
		cfg.Want = DefaultWant
	}
	return &Machine{want: cfg.Want, random: rand.New(rand.NewPCG(cfg.Seed, 0)), pause: firstLook}
}

// Know tells of a relay.
func (m *Machine) Know(now time.Time, id identity.NodeID, source Source) {
	if r := m.find(id); r != nil {
		r.source = max(r.source, source)
		return
	}
	if len(m.relays) >= MaxKnown && !m.evict(source) {
		return
	}
	m.relays = append(m.relays, &relay{id: id, source: source, luck: m.random.Uint64()})
	m.settle(now)
}

// evict forgets the least useful relay, if it is of less use than one of the source
// given.
func (m *Machine) evict(source Source) bool {
	var worst *relay
	for _, r := range m.relays {
		if r.state == known && r.source <= source && (r.fails > 0 || r.source < source) &&
			(worst == nil || r.source < worst.source || r.source == worst.source && r.fails > worst.fails) {
			worst = r
		}
	}
	if worst == nil {
		return false
	}
	m.relays = slices.DeleteFunc(m.relays, func(r *relay) bool { return r == worst })
	return true
}

// Registered says that a registration asked for stands, and the round trip to the
// relay.
func (m *Machine) Registered(now time.Time, id identity.NodeID, rtt time.Duration) {
	r := m.find(id)
	if r == nil || r.state != trying {
		return
	}
	r.state, r.since, r.heard, r.ailment = home, now, now, Well
	m.measure(r, now, rtt)
	if m.look.IsZero() {
		m.look = now.Add(m.pause)
	}
	m.settle(now)
}

// Failed says that a registration could not be made, or ended.
func (m *Machine) Failed(now time.Time, id identity.NodeID) {
	m.lose(now, id, 0)
}

// Refused says that the relay does not want this node, and how long it says it will
// not.
func (m *Machine) Refused(now time.Time, id identity.NodeID, after time.Duration) {
	if r := m.find(id); r != nil {
		after = max(min(after, lastRefused), min(refusedRetry<<min(r.fails, 6), lastRefused))
	}
	m.lose(now, id, after)
}

// lose handles the end of a registration; least is the shortest pause before the next.
func (m *Machine) lose(now time.Time, id identity.NodeID, least time.Duration) {
	r := m.find(id)
	if r == nil || r.state == known {
		return
	}
	m.retire(now, r, least)
	m.settle(now)
}

// retire makes a relay one that is merely known, and passes it over for a while.
func (m *Machine) retire(now time.Time, r *relay, least time.Duration) {
	if r.state == home && now.Sub(r.since) >= proven {
		r.fails = 0
	}
	pause := max(min(firstRetry<<min(r.fails, 16), lastRetry), least)
	r.state, r.since, r.ailment = known, now, Well
	r.fails++
	r.retry = now.Add(Spread(pause, m.random))
}

// Heard says that something came back from a home, and how long it took.
func (m *Machine) Heard(now time.Time, id identity.NodeID, rtt time.Duration) {
	r := m.find(id)
	if r == nil || r.state != home {
		return
	}
	r.heard = now
	m.measure(r, now, rtt)
	if m.anyAiling() {
		m.settle(now)
	}
}

// Ails says that a home does not do its work, or (Well) that it does again.
func (m *Machine) Ails(now time.Time, id identity.NodeID, what Ailment) {
	r := m.find(id)
	if r == nil || r.state != home || r.ailment == what {
		return
	}
	if r.ailment == Well {
		r.ailing = now
	}
	r.ailment = what
	if what != Well {
		m.actions = append(m.actions, Check{})
	}
	m.settle(now)
}

// Moved says that this host changed its network: relays are nearer or farther now,
// and what failed may work.
func (m *Machine) Moved(now time.Time) {
	for _, r := range m.relays {
		if r.state != known {
			continue
		}
		r.rtt, r.fails = 0, 0
		if soon := now.Add(firstRetry); r.retry.After(soon) {
			r.retry = soon
		}
	}
	m.pause = firstLook
	if !m.look.IsZero() {
		m.look = now.Add(m.pause)
	}
	m.settle(now)
}

// Tick says that the time of Deadline has come.
func (m *Machine) Tick(now time.Time) { m.settle(now) }

// Take returns what is to be done, and forgets it.
func (m *Machine) Take() []Action {
	actions := m.actions
	m.actions = nil
	return actions
}

func (m *Machine) find(id identity.NodeID) *relay {
	for _, r := range m.relays {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (m *Machine) measure(r *relay, now time.Time, rtt time.Duration) {
	if rtt <= 0 {
		return
	}
	if r.rtt == 0 || now.Sub(r.measured) > remember {
		r.rtt = rtt
	} else {
		r.rtt += (rtt - r.rtt) / 8
	}
	r.measured = now
}

func (m *Machine) anyAiling() bool {
	return slices.ContainsFunc(m.relays, func(r *relay) bool { return r.state == home && r.ailment != Well })
}

// score orders relays: what is lower is better.
func (r *relay) score() time.Duration {
	if r.rtt > 0 {
		return r.rtt
	}
	return guess
}
