package homes

import "time"

const (
	// calmInterval is how often a relay nobody sends through is asked for a sign of
	// life; busyInterval one that carries sessions, with busyProbes at a time, so that
	// one that drops half shows soon.
	calmInterval = 2500 * time.Millisecond
	busyInterval = time.Second
	busyProbes   = 2
	// roundProbes are sent, roundPace apart, when one was lost.
	roundProbes = 8
	roundPace   = 80 * time.Millisecond
	// minWait and maxWait bound how long a probe is waited for, else three times the
	// round trip.
	minWait = 400 * time.Millisecond
	maxWait = 2500 * time.Millisecond
	// lossyAt of one round lost make a second one, lossyOfTwo of both an ailment.
	lossyAt    = 2
	lossyOfTwo = 5
	// maxProbes bounds those remembered.
	maxProbes = 2*roundProbes + 8
)

// Health watches one registration. It asks for probes, which the shell sends to this
// node itself through the relay, and is told which came back. The zero value is not
// usable; see NewHealth.
//
//	calm ── one lost ──► round ── 2 of 8 lost ──► second round ──► Silent, Lossy or Well
//	  ▲                    │ fewer                                    │
//	  └────────────────────┴──────────────────────────────────────────┘
//
// A relay that ails goes on being probed in rounds, ever more rarely.
type Health struct {
	next    time.Time // when to send
	busy    bool
	left    int // probes of this round not sent yet
	round   int // 0: calm
	sent    int // of this round or both
	lost    int
	back    int
	rtt     time.Duration
	probes  []probe
	serial  uint64
	verdict Ailment
	bad     int // rounds in a row that found an ailment
}

type probe struct {
	serial  uint64
	sent    time.Time
	counted bool // belongs to the present rounds
	back    bool
}

// NewHealth makes a Health for a registration just made, over a round trip.
func NewHealth(now time.Time, rtt time.Duration) *Health {
	return &Health{next: now, rtt: rtt}
}

// Busy says whether sessions go through the relay.
func (h *Health) Busy(now time.Time, busy bool) {
	if h.busy != busy && busy && h.round == 0 {
		h.next = earlier(h.next, now.Add(busyInterval))
	}
	h.busy = busy
}

// Check asks for a look now, without waiting for the next.
func (h *Health) Check(now time.Time) {
	if h.round == 0 {
		h.begin(now)
	}
}

func (h *Health) begin(now time.Time) {
	h.round, h.left, h.sent, h.lost, h.back, h.next = 1, roundProbes, 0, 0, 0, now
	for i := range h.probes {
		h.probes[i].counted = false
	}
}

// Tick does what is due, and returns the serial numbers of the probes to send.
func (h *Health) Tick(now time.Time) (send []uint64) {
	h.expire(now)
	if now.Before(h.next) {
		return nil
	}
	switch {
	case h.round == 0:
		n := 1
		h.next = now.Add(calmInterval)
		if h.busy {
			n, h.next = busyProbes, now.Add(busyInterval)
		}
		for range n {
			send = append(send, h.probe(now, false))
		}
	case h.left > 0:
		h.left--
		h.next = now.Add(roundPace)
		send = append(send, h.probe(now, true))
	}
	return send
}

func (h *Health) probe(now time.Time, counted bool) uint64 {
	h.serial++
	if counted {
		h.sent++
	}
	if len(h.probes) >= maxProbes {
		h.probes = h.probes[1:]
	}
	h.probes = append(h.probes, probe{serial: h.serial, sent: now, counted: counted})
	return h.serial
}

// wait is how long a probe is waited for.
func (h *Health) wait() time.Duration { return min(max(3*h.rtt, minWait), maxWait) }

// expire counts the probes that did not come back in time.
func (h *Health) expire(now time.Time) {
	kept := h.probes[:0]
	missed := false
	for _, p := range h.probes {
		switch {
		case now.Sub(p.sent) < h.wait():
			kept = append(kept, p)
		case p.back:
		case p.counted:
			h.lost++
		default:
			missed = true
		}
	}
	h.probes = kept
	switch {
	case h.round == 0 && missed:
		h.begin(now)
	case h.round > 0 && h.left == 0 && h.back+h.lost >= h.sent:
		h.judge(now)
	}
}

// judge ends a round.
func (h *Health) judge(now time.Time) {
	switch {
	case h.back == 0:
		h.verdict = Silent
	case h.round == 1 && h.lost >= lossyAt:
		h.round, h.left, h.next = 2, roundProbes, now
		return
	case h.round == 2 && h.lost >= lossyOfTwo:
		h.verdict = Lossy
	default:
		h.verdict = Well
	}
	if h.verdict == Well {
		h.round, h.next, h.bad = 0, now.Add(busyInterval), 0
		return
	}
	h.begin(now)
	h.next = now.Add(busyInterval / 2 << min(h.bad, 6))
	h.bad++
}

// Back says that a probe came back, and returns how long it took; false for one that
// was not sent, came twice, or comes too late.
func (h *Health) Back(now time.Time, serial uint64) (time.Duration, bool) {
	for i := range h.probes {
		p := &h.probes[i]
		if p.serial != serial || p.back {
			continue
		}
		p.back = true
		if p.counted {
			h.back++
		}
		rtt := now.Sub(p.sent)
		if h.rtt == 0 {
			h.rtt = rtt
		} else {
			h.rtt += (rtt - h.rtt) / 8
		}
		if h.verdict == Silent {
			h.verdict, h.bad = Well, 0
		}
		return rtt, true
	}
	return 0, false
}

// Verdict says how the relay does.
func (h *Health) Verdict() Ailment { return h.verdict }

// RTT returns the smoothed round trip, 0 before anything came back.
func (h *Health) RTT() time.Duration { return h.rtt }

// Deadline returns when Tick is due.
func (h *Health) Deadline() time.Time {
	due := h.next
	if h.round > 0 && h.left == 0 || h.round == 0 {
		first := h.round > 0
		for _, p := range h.probes {
			if !p.back {
				if t := p.sent.Add(h.wait()); first || t.Before(due) {
					due, first = t, false
				}
			}
		}
	}
	return due
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
