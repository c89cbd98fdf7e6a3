package homes

import (
	"math/rand/v2"
	"testing"
	"time"
)

// watch runs a Health for a while against a relay that loses probes as told, and
// returns when the verdict first became the one given, or false.
func watch(h *Health, d time.Duration, until Ailment, rtt time.Duration, lost func() bool) (time.Duration, bool) {
	type echo struct {
		serial uint64
		at     time.Time
	}
	start := time.Unix(1_000_000, 0)
	now := start
	var echoes []echo
	for now.Sub(start) < d {
		for _, serial := range h.Tick(now) {
			if !lost() {
				echoes = append(echoes, echo{serial, now.Add(rtt)})
			}
		}
		for len(echoes) > 0 && !echoes[0].at.After(now) {
			h.Back(now, echoes[0].serial)
			echoes = echoes[1:]
		}
		if h.Verdict() == until {
			return now.Sub(start), true
		}
		now = now.Add(5 * time.Millisecond)
	}
	return 0, false
}

func TestHealthOfDeadRelay(t *testing.T) {
	for _, busy := range []bool{false, true} {
		h := NewHealth(time.Unix(1_000_000, 0), 20*time.Millisecond)
		h.Busy(time.Unix(1_000_000, 0), busy)
		if took, ok := watch(h, 10*time.Second, Silent, 20*time.Millisecond, func() bool { return true }); !ok || took > 4*time.Second {
			t.Errorf("busy %v: silent after %v, %v", busy, took, ok)
		}
		if _, ok := watch(h, time.Minute, Well, 20*time.Millisecond, func() bool { return false }); !ok {
			t.Error("never well again")
		}
	}
}

// TestHealthOfHalf: a busy relay that drops half is found out within 5 s nearly
// always, one on a line that loses a tenth nearly never.
func TestHealthOfHalf(t *testing.T) {
	const runs = 400
	late, wrong := 0, 0
	var longest time.Duration
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 1))
		lossy := NewHealth(time.Unix(1_000_000, 0), 40*time.Millisecond)
		lossy.Busy(time.Unix(1_000_000, 0), true)
		took, ok := watch(lossy, 5*time.Second, Lossy, 40*time.Millisecond, func() bool { return random.IntN(2) == 0 })
		longest = max(longest, took)
		if !ok {
			late++
		}
		line := NewHealth(time.Unix(1_000_000, 0), 40*time.Millisecond)
		line.Busy(time.Unix(1_000_000, 0), true)
		if _, ok := watch(line, 5*time.Second, Lossy, 40*time.Millisecond, func() bool { return random.IntN(10) == 0 }); ok {
			wrong++
		}
	}
	t.Logf("%d of %d late, %d wrong, longest %v", late, runs, wrong, longest)
	if late > runs/20 || wrong > runs/50 {
		t.Errorf("%d of %d late, %d wrongly called lossy", late, runs, wrong)
	}
}

func TestHealthCosts(t *testing.T) {
	for _, c := range []struct {
		busy bool
		most int
	}{{false, 26}, {true, 125}} {
		h := NewHealth(time.Unix(1_000_000, 0), 40*time.Millisecond)
		h.Busy(time.Unix(1_000_000, 0), c.busy)
		sent := 0
		watch(h, time.Minute, Silent, 40*time.Millisecond, func() bool { sent++; return false })
		if sent > c.most || sent < c.most/2 {
			t.Errorf("busy %v: %d probes a minute", c.busy, sent)
		}
	}
}

func TestHealthIgnoresStrangers(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := NewHealth(now, 0)
	sent := h.Tick(now)
	if _, ok := h.Back(now, sent[0]+1); ok {
		t.Error("a probe never sent came back")
	}
	if rtt, ok := h.Back(now.Add(time.Millisecond), sent[0]); !ok || rtt != time.Millisecond || h.RTT() != rtt {
		t.Errorf("got %v, %v", rtt, ok)
	}
	if _, ok := h.Back(now, sent[0]); ok {
		t.Error("a probe came back twice")
	}
}
