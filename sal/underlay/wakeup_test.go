package underlay

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// TestWakeIsNoticed injects the clocks of a host that sleeps: the peer is asked again,
// and the owner told, within a second of waking up, and only once; a wall clock that is
// set moves neither of the two clocks compared, and is no suspend.
func TestWakeIsNoticed(t *testing.T) {
	w := newWorld(t)
	var offset atomic.Int64
	type resume struct {
		slept time.Duration
		at    time.Time
	}
	told := make(chan resume, 8)
	client := w.left.peer('w', Config{
		clockOffset: func() (time.Duration, bool) { return time.Duration(offset.Load()), true },
		Resumed:     func(slept time.Duration) { told <- resume{slept, time.Now()} },
	}, false)
	c, s := connect(t, client, w.server, locator(at(2, 0), w.server.Port()))
	defer c.CloseWithError(0, "")
	defer s.CloseWithError(0, "")
	settle(t, c, s)
	for _, slept := range []time.Duration{time.Minute, 8 * time.Hour} {
		before := client.Metrics()
		offset.Add(int64(slept))
		woke := time.Now()
		select {
		case r := <-told:
			t.Logf("sleep of %v noticed after %v", slept, r.at.Sub(woke))
			if r.slept != slept {
				t.Errorf("slept %v, told %v", slept, r.slept)
			}
			if late := r.at.Sub(woke); late > time.Second {
				t.Errorf("noticed after %v", late)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not noticed")
		}
		eventually(t, "the path is probed", func() bool {
			now := client.Metrics()
			return now.PathSent > before.PathSent && now.PathReceived > before.PathReceived && !c.a.Info().Lost
		})
	}
	// The kernel's word that the wall clock jumped, without a suspend behind it.
	for range 3 {
		client.call((*engine).lookAtClocks)
	}
	select {
	case r := <-told:
		t.Errorf("a clock that was set is taken for a sleep of %v", r.slept)
	case <-time.After(3 * busyTick):
	}
	if n := client.Metrics().Resumes; n != 2 {
		t.Errorf("%d resumes counted", n)
	}
}

// TestWakeupEnds has the kernel's timer armed, and released at once at the end.
func TestWakeupEnds(t *testing.T) {
	w := openWakeup()
	if w == nil {
		t.Skip("no timers of this kind here")
	}
	if err := w.arm(); err != nil {
		t.Errorf("armed again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx, func() {})
	}()
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("does not end")
	}
	if err := w.arm(); err == nil {
		t.Error("the timer is still open")
	}
}
