package sal

import (
	"cmp"
	"slices"
	"time"

	"scn.alt/scn/routing/record"
)

// option is a candidate not tried yet, with what this node knows of it.
type option struct {
	record.Candidate
	// suspect nodes failed recently and are tried last.
	suspect bool
	// reachable nodes have a running connection or an address.
	reachable bool
	// rtt is the measured round trip, 0 if unknown.
	rtt time.Duration
	// rank is the Policy's, 0 without one.
	rank uint64
}

// pick chooses which of the options to try next and returns its index, or -1 if
// there is none. The order is: nodes that did not fail recently, then the lowest
// rank a Policy gave, then the lowest priority, then at random by weight (RFC 2782); where every weight is zero the
// nearest. An option without address is not chosen as long as a better answer may
// come (final is false). random(n) returns a number from 0 to n-1.
func pick(options []option, final bool, random func(n int64) int64) int {
	best := make([]int, 0, 8)
	for i, o := range options {
		if !o.reachable && !final {
			continue
		}
		if len(best) > 0 {
			switch c := compareOptions(o, options[best[0]]); {
			case c > 0:
				continue
			case c < 0:
				best = best[:0]
			}
		}
		best = append(best, i)
	}
	if len(best) == 0 {
		return -1
	}
	var total int64
	for _, i := range best {
		total += int64(options[i].Weight)
	}
	if total == 0 {
		return nearest(options, best, random)
	}
	at := random(total)
	for _, i := range best {
		if at -= int64(options[i].Weight); at < 0 {
			return i
		}
	}
	return best[len(best)-1]
}

// compareOptions orders by everything that comes before the weight.
func compareOptions(a, b option) int {
	switch {
	case a.suspect != b.suspect:
		if a.suspect {
			return 1
		}
		return -1
	case a.reachable != b.reachable:
		if b.reachable {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Priority, b.Priority))
}

// nearest returns the option of the least round trip, at random among those of
// unknown distance where none is known.
func nearest(options []option, of []int, random func(n int64) int64) int {
	known := slices.DeleteFunc(slices.Clone(of), func(i int) bool { return options[i].rtt == 0 })
	if len(known) == 0 {
		return of[random(int64(len(of)))]
	}
	return slices.MinFunc(known, func(a, b int) int { return int(options[a].rtt - options[b].rtt) })
}
