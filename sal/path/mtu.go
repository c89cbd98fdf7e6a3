package path

import "time"

// IP packet sizes that are tried. The QUIC packets of the overlay have 1400 bytes,
// so 1428 and 1448 decide whether they must be cut; 1124 and 1280 are what real
// narrow paths have.
var (
	sizes4 = [...]int{576, 1124, 1200, 1252, 1280, 1340, 1400, 1428, 1452, 1492, 1500}
	sizes6 = [...]int{1280, 1340, 1400, 1448, 1452, 1492, 1500}
	// first4 and first6 are tried together before the sizes between them.
	first4 = [...]int{1124, 1280, 1428, 1500}
	first6 = [...]int{1280, 1448, 1500}
)

const (
	base4, base6 = 1124, 1280
	floor4       = 576
	// mtuTries is how often a size is tried: with 30 % loss one that passes is
	// given up wrongly once in sixty times, and tried again at mtuRaise.
	mtuTries = 6
	// mtuRaiseFirst and mtuRaise are when larger sizes are tried again: soon, since
	// loss may have deceived, then as RFC 8899 §5.1.1.
	mtuRaiseFirst = time.Minute
	mtuRaise      = 10 * time.Minute
	mtuRetryLeast = 50 * time.Millisecond
	// mtuCheckInterval is how often the size in use is proved anew while data
	// leaves: one packet in this time finds a path that became narrower even when
	// the peer's own data hides that ours is lost.
	mtuCheckInterval = 10 * time.Second
)

// mtuSearch learns the largest IP packet that passes on a pair, in the manner of
// RFC 8899: what was echoed is confirmed, what was not after several tries is
// taken not to pass. The zero value has not begun.
type mtuSearch struct {
	confirmed int // largest size echoed; 0 if none
	limit     int // smallest size taken not to pass; 0 if none
	floor     bool
	checking  bool // the confirmed size is being proved anew
	begun     bool
	probes    [len(sizes4)]mtuProbe
	due       time.Time // next round; zero if none
	proved    time.Time // when the confirmed size, or a larger one, was last echoed
	raises    int
}

type mtuProbe struct {
	size  int
	tries int
	nonce [mtuTries]uint64
}

// mtuNow is the size IP packets with data may have now.
func (p *pair) mtuNow() int {
	s := &p.mtu
	switch {
	case p.way != wayDirect:
		return relayedMTU
	case s.confirmed != 0:
		return s.confirmed
	case !p.route.Remote.Addr().Is4():
		return base6
	case s.floor:
		return floor4
	default:
		return base4
	}
}

// beginMTU starts the search for the path MTU, unless it began already or there is
// nothing to search.
func (p *pair) beginMTU(now time.Time) {
	if p.way == wayDirect {
		p.mtu.begin(now)
	}
}

// begin starts the search, unless it began already.
func (s *mtuSearch) begin(now time.Time) {
	if !s.begun {
		s.begun = true
		s.due = now
	}
}

// check proves the confirmed size anew: data went unanswered although small
// messages pass.
func (s *mtuSearch) check(now time.Time) {
	if !s.begun || s.checking {
		return
	}
	s.checking = true
	s.probes = [len(s.probes)]mtuProbe{}
	s.due = now
}

// tooBig takes size not to pass.
func (s *mtuSearch) tooBig(now time.Time, size int) {
	if s.limit != 0 && size >= s.limit {
		return
	}
	s.limit = size
	if s.confirmed >= size {
		s.confirmed = 0
		s.checking = false
		s.due = now
		s.begun = true
	}
}

// wanted appends the sizes to try in this round.
func (s *mtuSearch) wanted(v4 bool, into []int) []int {
	all, first, base := sizes6[:], first6[:], base6
	if v4 {
		all, first, base = sizes4[:], first4[:], base4
	}
	if s.checking {
		return append(into, max(s.confirmed, base))
	}
	open := func(size int) bool {
		return size > s.confirmed && (s.limit == 0 || size < s.limit)
	}
	if v4 && s.floor && s.confirmed == 0 {
		return append(into, floor4)
	}
	for _, size := range first {
		if open(size) {
			into = append(into, size)
		}
	}
	if len(into) > 0 {
		return into
	}
	for _, size := range all {
		if open(size) && (size >= base || s.floor) {
			into = append(into, size)
		}
	}
	return into
}

// echoed notes that a probe of this nonce and size arrived. It reports whether
// what data may use has grown.
func (s *mtuSearch) echoed(now time.Time, nonce uint64, size int) (grown bool) {
	for i := range s.probes {
		pr := &s.probes[i]
		if pr.size != size {
			continue
		}
		for j := range pr.tries {
			if pr.nonce[j] != nonce {
				continue
			}
			if s.checking {
				s.checking = false
				s.probes = [len(s.probes)]mtuProbe{}
				s.due = now
			}
			if size >= s.confirmed {
				s.proved = now
			}
			if size > s.confirmed {
				s.confirmed = size
				grown = true
			}
			if s.limit != 0 && s.limit <= size {
				s.limit = 0 // it passes after all
			}
			return grown
		}
	}
	return false
}

// probeFor returns the record of a size, making one if there is room.
func (s *mtuSearch) probeFor(size int) *mtuProbe {
	var free *mtuProbe
	for i := range s.probes {
		switch s.probes[i].size {
		case size:
			return &s.probes[i]
		case 0:
			if free == nil {
				free = &s.probes[i]
			}
		}
	}
	if free == nil {
		return nil
	}
	free.size = size
	return free
}

// round is called when due. It gives the sizes to probe now through send, which
// returns the nonce used, and plans the next round. It reports whether what data
// may use has shrunk.
func (s *mtuSearch) round(now time.Time, v4 bool, rtt time.Duration, send func(size int) uint64) (shrunk bool) {
	for {
		var buffer [len(sizes4)]int
		wanted := s.wanted(v4, buffer[:0])
		if len(wanted) == 0 {
			break
		}
		pending, failed := false, 0
		for _, size := range wanted {
			if size > maxDatagram {
				continue
			}
			pr := s.probeFor(size)
			if pr == nil || pr.tries >= mtuTries {
				if failed == 0 {
					failed = size
				}
				continue
			}
			pr.nonce[pr.tries] = send(size)
			pr.tries++
			pending = true
		}
		if failed != 0 {
			smaller, hopeless := s.fail(v4, failed)
			shrunk = shrunk || smaller
			if hopeless {
				s.due = now.Add(mtuRaiseFirst)
				return shrunk
			}
		}
		if pending {
			s.due = now.Add(max(2*rtt, mtuRetryLeast))
			return shrunk
		}
		if failed == 0 {
			break
		}
	}
	// All is known: try larger sizes again later.
	s.due = time.Time{}
	if s.limit != 0 {
		wait := mtuRaise
		if s.raises == 0 {
			wait = mtuRaiseFirst
		}
		s.due = now.Add(wait)
		s.raises++
		s.limit = 0
		s.probes = [len(s.probes)]mtuProbe{}
	}
	return shrunk
}

// fail takes size not to pass. It reports whether what data may use has shrunk,
// and whether there is nothing smaller to try.
func (s *mtuSearch) fail(v4 bool, size int) (shrunk, hopeless bool) {
	if s.checking {
		s.checking = false
		s.probes = [len(s.probes)]mtuProbe{}
		shrunk = s.confirmed != 0
		s.confirmed = 0
	}
	s.limit = size
	base := base6
	if v4 {
		base = base4
	}
	if size <= base && s.confirmed == 0 {
		if v4 && !s.floor && size > floor4 {
			s.floor = true
			return true, false
		}
		// Not even the least passes. That is loss, or the path is dead, which is
		// found out elsewhere: begin anew later.
		s.limit = 0
		s.probes = [len(s.probes)]mtuProbe{}
		s.raises = 0
		return shrunk, true
	}
	return shrunk, false
}
