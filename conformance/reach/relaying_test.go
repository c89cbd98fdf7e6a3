package reach

import (
	"os/exec"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

// Reference: issue "Reach", "Shown by" 5, in short: what a relay costs, and that a
// flood of strangers does not drown its customers. The figures themselves need a
// quiet machine (make bench-reach); here is what must hold on any.
func TestRelaying(t *testing.T) {
	netns.Require(t, func() error {
		_, err := exec.LookPath("iperf3")
		return err
	})
	ctx, w := open(t, Config{})
	r, err := w.Relaying(ctx, RelayingConfig{Rounds: 1, Length: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("direct %.0f Mb/s, relayed %.0f; a customer of 100 Mb/s has %.0f beside a flood and %.0f in it; without a limit %.0f and %.0f; %d packets of strangers",
		r.Direct, r.Relayed, r.Calm, r.Flooded, r.CalmFast, r.FloodedFast, r.Flood)
	if r.Relayed < 0.3*r.Direct {
		t.Errorf("through the relay %.0f Mb/s of %.0f", r.Relayed, r.Direct)
	}
	if r.Flooded < 0.7*r.Calm {
		t.Errorf("a flood leaves %.0f Mb/s of %.0f", r.Flooded, r.Calm)
	}
	if r.Flood < 10_000 {
		t.Errorf("a flood of %d packets is none", r.Flood)
	}
}

// Many nodes register with one relay, and it says so.
func TestCrowd(t *testing.T) {
	ctx, w := open(t, Config{OneRelay: true})
	const count = 300
	c, err := w.Crowd(ctx, count, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	each := c.PerNode()
	t.Logf("%d nodes in %v: %d MB before, %d MB with them, %d kB for each", c.Registered, c.Took, c.Empty/1e6, c.Full/1e6, each/1000)
	if each > 400_000 {
		t.Errorf("%d kB for each registered node", each/1000)
	}
}
