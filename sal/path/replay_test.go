package path

import (
	"math/rand/v2"
	"testing"
)

// TestReplayWindow compares the window with a set that remembers everything.
func TestReplayWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var w replayWindow
	seen := map[uint64]bool{}
	newest := uint64(0)
	for range 200_000 {
		var counter uint64
		switch rng.IntN(10) {
		case 0:
			counter = newest + 1 + rng.Uint64N(3*windowSize)
		case 1, 2, 3:
			counter = newest + 1
		default:
			back := rng.Uint64N(windowSize + 100)
			if back > newest {
				continue
			}
			counter = newest - back
		}
		want := counter != 0 && !seen[counter] && (counter > newest || newest-counter < windowSize)
		if got := w.fresh(counter); got != want {
			t.Fatalf("fresh(%d) = %v with newest %d, want %v", counter, got, newest, want)
		}
		if want && rng.IntN(4) > 0 {
			w.accept(counter)
			seen[counter] = true
			newest = max(newest, counter)
		}
	}
}

func TestReplayWindowEnds(t *testing.T) {
	var w replayWindow
	if w.fresh(0) {
		t.Error("counter 0 is never used")
	}
	w.accept(1<<64 - 1)
	if w.fresh(1<<64-1) || w.fresh(5) {
		t.Error("the last counter or an ancient one is fresh")
	}
	if !w.fresh(1<<64 - 2) {
		t.Error("a late one is not fresh")
	}
}
