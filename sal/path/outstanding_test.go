package path

import (
	"testing"
	"time"
)

// TestOutstanding sends challenges at any pace over paths of any round trip: after
// some time every such path must have been recognized by an echo.
func TestOutstanding(t *testing.T) {
	for _, pace := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		for _, rtt := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second} {
			var o outstanding
			start := time.Unix(1_700_000_000, 0)
			echoes := map[time.Time]uint64{}
			recognized := 0
			for now, nonce := start, uint64(1); now.Sub(start) < 20*time.Second; now = now.Add(time.Millisecond) {
				if n, ok := echoes[now]; ok {
					if sent, ok := o.answered(now, n); ok {
						recognized++
						if now.Sub(sent) != rtt {
							t.Fatalf("round trip %v, want %v", now.Sub(sent), rtt)
						}
						if _, again := o.answered(now, n); again {
							t.Fatal("an echo counts twice")
						}
					}
				}
				if now.Sub(start)%pace == 0 {
					o.add(now, nonce)
					echoes[now.Add(rtt)] = nonce
					nonce++
				}
			}
			if recognized == 0 {
				t.Errorf("a challenge each %v over a path of %v: no echo was recognized", pace, rtt)
			}
		}
	}
}

func TestOutstandingExpires(t *testing.T) {
	var o outstanding
	start := time.Unix(1_700_000_000, 0)
	o.add(start, 1)
	if _, ok := o.answered(start.Add(echoLifetime+1), 1); ok {
		t.Error("an echo that took too long counts")
	}
}
