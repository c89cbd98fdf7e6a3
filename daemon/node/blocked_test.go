package node

import (
	"testing"
	"time"
)

func TestBlockage(t *testing.T) {
	type at struct {
		second            float64
		works, used, want bool
	}
	for _, c := range []struct {
		name  string
		moves []float64 // seconds at which the network changes
		steps []at
	}{
		{"UDP works from the start", nil, []at{{0, false, false, false}, {1, true, false, false}, {100, true, false, false}}},
		{"UDP is blocked", nil, []at{{0, false, false, false}, {1.9, false, false, false}, {2, false, false, true}, {500, false, true, true}}},
		{"a short silence", nil, []at{{0, true, false, false}, {10, false, false, false}, {11, true, false, false}, {14, false, false, false}, {15.9, false, false, false}, {16, false, false, true}}},
		{
			"UDP comes back", nil,
			[]at{{0, false, false, false}, {3, false, false, true}, {5, false, true, true}, {10, true, true, true}, {80, true, false, true}, {139, true, false, true}, {140, true, false, false}},
		},
		{
			"UDP comes back and goes again", nil,
			[]at{{0, false, false, false}, {3, false, false, true}, {10, true, false, true}, {60, false, false, true}, {90, true, false, true}, {149, true, false, true}, {150, true, false, false}, {151, false, false, false}, {154, false, false, true}},
		},
		{"another network begins anew", []float64{1.5}, []at{{0, false, false, false}, {3, false, false, false}, {3.4, false, false, false}, {3.5, false, false, true}}},
		{"another network, the tunnel stays", []float64{10}, []at{{0, false, false, false}, {3, false, true, true}, {11, false, true, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			var b blockage
			moves := c.moves
			for _, s := range c.steps {
				for len(moves) > 0 && moves[0] <= s.second {
					b.changed(start.Add(time.Duration(moves[0] * float64(time.Second))))
					moves = moves[1:]
				}
				now := start.Add(time.Duration(s.second * float64(time.Second)))
				if got := b.step(now, s.works, s.used); got != s.want {
					t.Errorf("after %v s: %v", s.second, got)
				}
			}
		})
	}
}
