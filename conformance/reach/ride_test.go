package reach

import (
	"os/exec"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

// Reference: issue "Reach", "Shown by" 4, in short: what a train does to a shell,
// to a subscription and to a stream, with one modem and with two. All must live;
// two modems must be worth their price.
func TestRide(t *testing.T) {
	netns.Require(t, func() error {
		for _, p := range Programs() {
			if _, err := exec.LookPath(p); err != nil {
				return err
			}
		}
		return nil
	})
	ctx, w := open(t, Config{})
	rides, err := w.Ride(ctx, RideConfig{Seed: 7, Duration: time.Minute, Dir: t.TempDir(), Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rides {
		bounds, counts, noticed := r.Histogram()
		t.Logf("%d modems, %d handovers, %d bursts, %d tunnels: %d lines, %d messages, ticker lost %d of %d, stream lost %d of %d",
			r.Modems, r.Handovers, r.Bursts, r.Tunnels, r.Lines, r.Messages, r.TickerLost, r.TickerSent, r.StreamLost, r.StreamSent)
		for i, b := range bounds {
			t.Logf("  silences from %v: %d", b, counts[i])
		}
		t.Logf("  silent for %v in all", noticed)
		if r.Err != nil {
			t.Errorf("%d modems: %v", r.Modems, r.Err)
		}
		if r.Lines < 20 || r.Messages < 60 {
			t.Errorf("%d modems: %d lines and %d messages in a minute", r.Modems, r.Lines, r.Messages)
		}
	}
}

// A trace is what it is by its seed alone, and as rough as it says.
func TestTrace(t *testing.T) {
	a, b := Trace(3, 10*time.Minute), Trace(3, 10*time.Minute)
	if len(a) != len(b) {
		t.Fatal("two traces of one seed differ")
	}
	counts := make(map[Happening]int)
	last := [2]time.Duration{}
	network := [2]int{}
	for i, s := range a {
		if s != b[i] {
			t.Fatalf("step %d differs: %+v, %+v", i, s, b[i])
		}
		counts[s.What]++
		if s.What != Handover {
			continue
		}
		if d := s.At - last[s.Modem]; d < 5*time.Second || d > 20*time.Second {
			t.Errorf("a network lasted %v", d)
		}
		if network[s.Modem] == s.Network {
			t.Error("a handover to the network it is on")
		}
		last[s.Modem], network[s.Modem] = s.At, s.Network
	}
	// Two modems, a handover every 12.5 s on average; 40 bursts each; 13 tunnels.
	if counts[Handover] < 70 || counts[Burst] < 60 || counts[Tunnel] < 8 {
		t.Errorf("ten minutes are %v", counts)
	}
}
