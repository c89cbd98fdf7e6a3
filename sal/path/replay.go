package path

// windowSize is how far behind the newest counter a message may be. Messages are
// few (tens per second), so this covers seconds of reordering between a slow
// path and a fast one.
const windowSize = 1024

// replayWindow remembers which counters were seen (RFC 6479). The zero value has
// seen none; counters start at 1.
type replayWindow struct {
	newest uint64
	seen   [windowSize/64 + 1]uint64
}

// fresh reports whether counter may still be accepted.
func (w *replayWindow) fresh(counter uint64) bool {
	switch {
	case counter == 0:
		return false
	case counter > w.newest:
		return true
	case w.newest-counter >= windowSize:
		return false
	}
	word := counter / 64 % uint64(len(w.seen))
	return w.seen[word]&(1<<(counter%64)) == 0
}

// accept marks counter as seen. Only authentic messages may be marked, or a
// forgery could shut out what is genuine.
func (w *replayWindow) accept(counter uint64) {
	if counter > w.newest {
		// Clear the words between the newest so far and counter: they are of the
		// window's previous turn.
		from, to := w.newest/64, counter/64
		if to-from >= uint64(len(w.seen)) {
			w.seen = [len(w.seen)]uint64{}
		} else {
			for i := from + 1; i <= to; i++ {
				w.seen[i%uint64(len(w.seen))] = 0
			}
		}
		w.newest = counter
	}
	w.seen[counter/64%uint64(len(w.seen))] |= 1 << (counter % 64)
}
