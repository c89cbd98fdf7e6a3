package sal

import (
	"testing"

	"scn.alt/scn/routing/identity"
)

func TestLossWatch(t *testing.T) {
	one, two := identity.NodeID{1}, identity.NodeID{2}
	for _, c := range []struct {
		name  string
		via   identity.NodeID
		steps [][2]uint64 // sent and lost in each second
		want  bool
	}{
		{"half", one, [][2]uint64{{0, 0}, {50, 25}, {50, 25}}, true},
		{"one bad second", one, [][2]uint64{{0, 0}, {50, 25}, {50, 2}, {50, 25}}, false},
		{"congestion", one, [][2]uint64{{0, 0}, {500, 60}, {500, 60}, {500, 60}}, false},
		{"too few to say", one, [][2]uint64{{0, 0}, {3, 2}, {3, 2}, {3, 3}}, false},
		{"a pause does not clear", one, [][2]uint64{{0, 0}, {50, 25}, {1, 0}, {50, 25}}, true},
		{"another relay since", two, [][2]uint64{{0, 0}, {50, 25}, {50, 25}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w lossWatch
			var sent, lost uint64
			got := false
			for i, s := range c.steps {
				sent, lost = sent+s[0], lost+s[1]
				via := one
				if i == len(c.steps)-1 {
					via = c.via
				}
				got = w.look(via, sent, lost)
			}
			if got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
