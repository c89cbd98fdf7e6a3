package suite

import (
	"slices"
	"testing"
	"time"
)

// Reference: issue "Speed it must already have": the longest silence of a 2 ms
// UDP echo, median of ten moves, from the moment the new address is usable: ≤
// 50 ms for the client and the provider, ≤ 1 s for both at once. What the echo is
// silent at rest is the machine's, not the overlay's: it is measured beside each
// move and taken off.
func TestGapOfAMove(t *testing.T) {
	const count = 10
	w := newWorld(t)
	echo := w.echo(t, "echo")
	for i, limit := range []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, time.Second} {
		s := moves[i]
		var silences, rests []time.Duration
		for range count {
			rest, _ := echo.Silence(time.Now().Add(-300 * time.Millisecond))
			rests = append(rests, rest)
			s.play(w)
			usable := time.Now()
			silence, err := echo.Recovered(within(t, 30*time.Second), usable, 300*time.Millisecond)
			if err != nil {
				t.Fatalf("%s: the echo does not come back: %v", s.name, err)
			}
			silences = append(silences, silence)
			time.Sleep(400 * time.Millisecond)
		}
		slices.Sort(silences)
		slices.Sort(rests)
		median, rest := silences[count/2], rests[count/2]
		t.Logf("%s: silence from %v to %v, median %v; at rest %v", s.name, silences[0], silences[count-1], median, rest)
		if median-rest > limit {
			t.Errorf("%s: the median silence of %d moves is %v, and %v at rest; at most %v more is allowed: %v", s.name, count, median, rest, limit, silences)
		}
	}
}

// Reference: DESIGN §5: make-before-break where two links exist: nothing lost.
func TestTwoLinks(t *testing.T) {
	w := newWorld(t)
	second := w.client.host.Attach(w.LANs[cafe], w.next())
	echo := w.echo(t, "echo")
	time.Sleep(time.Second) // the second link's paths are being learnt
	for _, link := range []interface {
		Down()
		Up()
	}{w.client.link, second} {
		began := time.Now()
		link.Down()
		silence, err := echo.Recovered(within(t, 20*time.Second), began, 200*time.Millisecond)
		must(t, err)
		t.Logf("one of two links down: silence %v", silence)
		if silence > 500*time.Millisecond {
			t.Errorf("with another link up the silence was %v", silence)
		}
		link.Up()
		must(t, echo.Settle(within(t, 20*time.Second), 200*time.Millisecond))
		time.Sleep(500 * time.Millisecond)
	}
}

// Reference: DESIGN §5: detection by silence: the link is there, the address is
// there, and nothing arrives any more; and a blackout ends at once.
func TestSilentCutAndBlackout(t *testing.T) {
	w := newWorld(t)
	second := w.client.host.Attach(w.LANs[cafe], w.next())
	echo := w.echo(t, "echo")
	time.Sleep(time.Second)
	began := time.Now()
	w.client.link.Cut()
	silence, err := echo.Recovered(within(t, 20*time.Second), began, 200*time.Millisecond)
	must(t, err)
	t.Logf("one of two links cut silently: silence %v", silence)
	if silence > 3*time.Second {
		t.Errorf("a silent cut was noticed after %v", silence)
	}
	second.Cut()
	time.Sleep(8 * time.Second)
	w.client.link.Mend()
	second.Mend()
	mended := time.Now()
	silence, err = echo.Recovered(within(t, 30*time.Second), mended, 200*time.Millisecond)
	must(t, err)
	t.Logf("after 8 s without a network: silence %v", silence)
	if silence > 3*time.Second {
		t.Errorf("after a blackout the echo was silent for another %v", silence)
	}
}

// Reference: issue "What to build" 3: IPv4 and IPv6 underlay.
func TestIPv6Underlay(t *testing.T) {
	require(t)
	w := newWorldOn(t, true)
	echo := w.echo(t, "echo")
	for _, s := range moves {
		s.play(w)
		usable := time.Now()
		silence, err := echo.Recovered(within(t, 30*time.Second), usable, 200*time.Millisecond)
		must(t, err)
		t.Logf("%s: silence %v", s.name, silence)
	}
	status, err := w.client.Status(within(t, 10*time.Second))
	must(t, err)
	for _, p := range status.Peers {
		if p.NodeID.String() == w.provider.ID && !p.Path.Remote.Addr().Unmap().Is6() {
			t.Errorf("the path is %s", p.Path.Remote)
		}
	}
}
