package homes

import (
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// settle does what the present state asks for: give up what ails, fill the places
// that are free, keep the best, and tell of it.
func (m *Machine) settle(now time.Time) {
	m.dropAiling(now)
	m.dropSurplus(now)
	m.fill(now)
	m.lookAround(now)
	m.tell(now)
	m.schedule(now)
}

// well returns the homes that do their work, in the order in which they became homes.
func (m *Machine) well() []*relay {
	var list []*relay
	for _, r := range m.relays {
		if r.state == home && r.ailment == Well {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b *relay) int { return a.since.Compare(b.since) })
	return list
}

// dropAiling gives up the homes that ail, once another one was heard since: before
// that, it may be this host's own network that fails.
func (m *Machine) dropAiling(now time.Time) {
	well := m.well()
	for _, r := range m.relays {
		if r.state != home || r.ailment == Well {
			continue
		}
		if !slices.ContainsFunc(well, func(o *relay) bool { return o.heard.After(r.ailing) }) {
			continue
		}
		least := time.Duration(0)
		if r.ailment == Lossy {
			least = lossyRetry
		}
		m.drop(now, r)
		m.retire(now, r, least)
	}
}

// dropSurplus gives up the slowest homes beyond those wanted. One that was a home
// before stays unless another is clearly faster.
func (m *Machine) dropSurplus(now time.Time) {
	for {
		well := m.well()
		if len(well) <= m.want {
			return
		}
		worst := slices.MaxFunc(well, func(a, b *relay) int { return int(a.score() - b.score()) })
		newest := well[len(well)-1]
		if worst != newest && newest.score() > worst.score()*3/4 {
			worst = newest
		}
		m.drop(now, worst)
	}
}

// drop ends a registration, made or in the making.
func (m *Machine) drop(now time.Time, r *relay) {
	m.actions = append(m.actions, Drop{r.id})
	r.state, r.since, r.ailment = known, now, Well
}

// fill has registrations made for the places that are free.
func (m *Machine) fill(now time.Time) {
	missing := m.want - len(m.well())
	total := 0
	for _, r := range m.relays {
		if r.state == trying {
			total++
			if now.Sub(r.since) < patience {
				missing--
			}
		}
	}
	for ; missing > 0 && total < maxTrying; missing, total = missing-1, total+1 {
		r := m.best(now, func(*relay) bool { return true })
		if r == nil {
			return
		}
		m.try(now, r)
	}
}

func (m *Machine) try(now time.Time, r *relay) {
	r.state, r.since = trying, now
	timeout := Patience(0)
	if !r.heard.IsZero() && now.Sub(r.heard) < remember {
		timeout = Patience(r.fails) // one failure is that it ended
	}
	m.actions = append(m.actions, Register{r.id, timeout})
}

// best returns the best relay that may be tried now.
func (m *Machine) best(now time.Time, want func(*relay) bool) *relay {
	var best *relay
	for _, r := range m.relays {
		if r.state != known || now.Before(r.retry) || !want(r) {
			continue
		}
		if best == nil || r.better(best) {
			best = r
		}
	}
	return best
}

// better orders the relays that may be tried: those that did not fail, those that are
// near, those one has the best word for.
func (r *relay) better(o *relay) bool {
	switch {
	case r.fails != o.fails:
		return r.fails < o.fails
	case r.score() != o.score():
		return r.score() < o.score()
	case r.source != o.source:
		return r.source > o.source
	}
	return r.luck < o.luck
}

// lookAround measures a relay that is no home, now and then.
func (m *Machine) lookAround(now time.Time) {
	if m.look.IsZero() || now.Before(m.look) || len(m.well()) < m.want {
		return
	}
	r := m.best(now, func(r *relay) bool { return r.rtt == 0 || now.Sub(r.measured) > remember })
	if r != nil {
		m.try(now, r)
	}
	m.pause = min(max(2*m.pause, nextLook), lastLook)
	m.look = now.Add(m.pause)
}

// tell gives the homes to be told to others, when they changed. One that ails is told
// until it is given up: it may be this host's network that fails.
func (m *Machine) tell(now time.Time) {
	all := m.well()
	for _, r := range m.relays {
		if r.state == home && r.ailment != Well {
			all = append(all, r)
		}
	}
	if len(all) == 0 && len(m.told) > 0 { // it may have restarted
		if m.empty.IsZero() {
			m.empty = now
		}
		if now.Sub(m.empty) < linger {
			return
		}
	}
	m.empty = time.Time{}
	all = all[:min(len(all), m.want)]
	slices.SortStableFunc(all, func(a, b *relay) int { return a.since.Compare(b.since) })
	list := make([]identity.NodeID, 0, len(all))
	for _, r := range all {
		list = append(list, r.id)
	}
	if slices.Equal(list, m.told) {
		return
	}
	m.told = list
	m.actions = append(m.actions, Homes{slices.Clone(list)})
}

// Deadline returns when Tick is due, zero if nothing is.
func (m *Machine) Deadline() time.Time { return m.due }

// schedule finds the next time at which something may have to be done.
func (m *Machine) schedule(now time.Time) {
	m.due = time.Time{}
	at := func(t time.Time) {
		if t.After(now) && (m.due.IsZero() || t.Before(m.due)) {
			m.due = t
		}
	}
	if len(m.well()) < m.want {
		for _, r := range m.relays {
			switch r.state {
			case trying:
				at(r.since.Add(patience))
			case known:
				at(r.retry)
			case home: // it says itself when it fails
			}
		}
	} else {
		at(m.look)
	}
	if !m.empty.IsZero() {
		at(m.empty.Add(linger))
	}
}
