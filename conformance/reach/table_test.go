package reach

import (
	"testing"
	"time"
)

// Reference: issue "Reach", "Shown by" 2: a table of NAT kinds with a UDP timeout
// of 20 s: connected always, direct where theory allows, through a relay when
// not; and where UDP is blocked it still works.
func TestWhoReachesWhom(t *testing.T) {
	ctx, w := open(t, Config{})
	cells, err := w.Table(ctx, TableConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		t.Log(c)
		want, why := Direct(c.From, c.To)
		switch {
		case c.Err != nil:
			t.Errorf("%s → %s: %v", c.From, c.To, c.Err)
		case want && !c.Direct:
			t.Errorf("%s → %s is not direct though theory allows it (%s); status says %q", c.From, c.To, why, c.Last.Path.Why)
		case !want && c.Direct:
			t.Errorf("%s → %s is said to be direct, which cannot be: %s", c.From, c.To, why)
		case !want && c.Last.Path.Why == "":
			t.Errorf("%s → %s: status does not say why it is not direct", c.From, c.To)
		}
		if c.FirstByte > 10*time.Second || c.Quiet > 10*time.Second {
			t.Errorf("%s → %s: the first byte took %v, and after a silence %v", c.From, c.To, c.FirstByte, c.Quiet)
		}
	}
}
