package overlay

import (
	"slices"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

func TestSilenceBetween(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	e := &Echo{arrivals: []time.Time{at(0), at(2), at(40), at(42), at(50)}}
	for _, c := range []struct {
		name         string
		since, until int
		want         int
		heard        bool
	}{
		{"all", 0, 50, 38, true},
		{"begins within a silence", 10, 50, 30, true},
		{"ends within a silence", 0, 30, 28, true},
		{"nothing heard", 5, 35, 30, false},
		{"behind the end", 50, 150, 100, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, heard := e.SilenceBetween(at(c.since), at(c.until))
			if got != time.Duration(c.want)*time.Millisecond || heard != c.heard {
				t.Errorf("%v, %v; want %d ms, %v", got, heard, c.want, c.heard)
			}
		})
	}
}

func TestLostAndSilences(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	e := &Echo{
		sent:     []time.Time{at(0), at(2), at(4), at(6), at(8)},
		answered: []bool{true, false, true, false, true},
		arrivals: []time.Time{at(1), at(5), at(30)},
	}
	if sent, lost := e.Lost(at(2), at(8)); sent != 3 || lost != 2 {
		t.Errorf("%d sent, %d lost; want 3 and 2", sent, lost)
	}
	got := e.Silences(at(0), at(40), 10*time.Millisecond)
	if want := []time.Duration{25 * time.Millisecond, 10 * time.Millisecond}; !slices.Equal(got, want) {
		t.Errorf("silences %v, want %v", got, want)
	}
}

// The instrument itself must be quieter than what it measures.
func TestEchoOverAPlainNetwork(t *testing.T) {
	in := NewInternet(netns.Test(t), 2)
	a, link := in.Host("a", 0, 2)
	b, _ := in.Host("b", 1, 2)
	server, err := ServeEcho(b, ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	e, err := StartEcho(t.Context(), a, "10.1.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Settle(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	steady, heard := e.Silence(time.Now().Add(-400 * time.Millisecond))
	t.Logf("longest silence at rest: %v", steady)
	if !heard || steady > 100*time.Millisecond {
		t.Errorf("at rest there is a silence of %v", steady)
	}
	link.Cut()
	cut := time.Now()
	time.Sleep(200 * time.Millisecond)
	link.Mend()
	mended := time.Now()
	time.Sleep(300 * time.Millisecond)
	if during, _ := e.SilenceBetween(cut, mended); during < 190*time.Millisecond {
		t.Errorf("during a cut of 200 ms the silence is %v", during)
	}
	after, heard := e.Silence(mended)
	if !heard || after > 200*time.Millisecond {
		t.Errorf("after the cut the silence is %v, heard %v", after, heard)
	}
	if sent, lost := e.Lost(time.Now().Add(-250*time.Millisecond), time.Now().Add(-50*time.Millisecond)); sent == 0 || lost > 0 {
		t.Errorf("of %d packets on a quiet network %d were lost", sent, lost)
	}
	if sent, lost := e.Lost(cut, mended); lost < sent/2 {
		t.Errorf("of %d packets into a cut cable %d were lost", sent, lost)
	}
	if sent, answered, _ := e.Counts(); answered == 0 || answered > sent {
		t.Errorf("%d of %d packets answered", answered, sent)
	}
}
