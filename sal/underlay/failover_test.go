package underlay

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// TestBackupTakesOver has the first link fall silent, its carrier up: the backup, kept
// proved, carries at once. When the first works again the session returns to it once,
// and stays there.
func TestBackupTakesOver(t *testing.T) {
	w := newTwoLinks(t, map[string]LinkPolicy{"wwan0": PolicyBackup}, false)
	e := startEcho(t, w.c, w.s)
	eventually(t, "eth0 is used, wwan0 stands by", func() bool {
		return w.uses(t) == "eth0" && w.link(t, "wwan0").State == LinkStandby
	})
	for range 2 {
		cut := time.Now()
		w.fixed.forward(false)
		gap := e.resumed(t, cut.Add(20*time.Millisecond))
		if got := w.uses(t); got != "wwan0" {
			t.Errorf("uses %s", got)
		}
		if l := w.link(t, "eth0"); l.State == LinkInUse {
			t.Errorf("eth0: %+v", l)
		}
		// Silence shows after 250 ms; what follows is the round trip of one probe.
		t.Logf("backup carries after %v", gap)
		if gap > 5*time.Second {
			t.Errorf("the backup took over after %v", gap)
		}
		time.Sleep(300 * time.Millisecond)
		mended := time.Now()
		w.fixed.forward(true)
		eventually(t, "the session is back on eth0", func() bool { return w.uses(t) == "eth0" })
		t.Logf("back after %v", time.Since(mended))
		moves := w.c.a.Info().Moves
		time.Sleep(700 * time.Millisecond)
		if n := w.c.a.Info().Moves; n != moves {
			t.Errorf("moved %d times more", n-moves)
		}
		eventually(t, "wwan0 stands by again", func() bool { return w.link(t, "wwan0").State == LinkStandby })
	}
}

// TestMeteredCarriesNothing has a metered link send not one packet while another works,
// carry the session when that one falls silent, and nothing again afterwards.
func TestMeteredCarriesNothing(t *testing.T) {
	w := newTwoLinks(t, map[string]LinkPolicy{"wwan0": PolicyMetered}, true)
	e := startEcho(t, w.c, w.s)
	e.resumed(t, time.Now())
	time.Sleep(2 * time.Second)
	if l := w.link(t, "wwan0"); l.BytesSent != 0 || l.BytesReceived != 0 || l.State != LinkUnused {
		t.Errorf("while eth0 works: %+v", l)
	}
	if n := w.left.sent("wwan0"); n > 0 {
		t.Errorf("wwan0 sent %d packets", n)
	}
	w.fixed.forward(false)
	e.resumed(t, time.Now().Add(20*time.Millisecond))
	if got := w.uses(t); got != "wwan0" {
		t.Errorf("uses %s", got)
	}
	told := locator(at(3, 0), w.client.Port())
	eventually(t, "the metered address is told", func() bool { return slices.Contains(w.client.Locators(), told) })
	w.fixed.forward(true)
	eventually(t, "the session is back on eth0", func() bool { return w.uses(t) == "eth0" })
	eventually(t, "the metered address is withdrawn", func() bool { return !slices.Contains(w.client.Locators(), told) })
	time.Sleep(time.Second)
	before := w.link(t, "wwan0").BytesSent
	time.Sleep(2 * time.Second)
	if n := w.link(t, "wwan0").BytesSent; n != before {
		t.Errorf("metered link sent %d bytes while eth0 works", n-before)
	}
}

// TestDuplicates sends small datagrams over both links: not one is late when the first
// link falls silent. Bulk goes once.
func TestDuplicates(t *testing.T) {
	w := newTwoLinks(t, map[string]LinkPolicy{"wwan0": PolicyBackup}, true)
	w.server.SetDuplicate(true)
	eventually(t, "both ends have a second way", func() bool {
		return w.c.a.second.Load() != nil && w.s.a.second.Load() != nil && w.uses(t) == "eth0"
	})
	out, err := w.c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	answer := make([]byte, 1)
	ask := func() time.Duration {
		start := time.Now()
		if _, err := out.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		out.SetReadDeadline(start.Add(10 * time.Second))
		if _, err := out.Read(answer); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	wg.Go(func() {
		in, err := w.s.AcceptStream(t.Context())
		if err != nil {
			return
		}
		b := make([]byte, 1)
		for {
			if n, err := in.Read(b); err != nil || n == 0 {
				return
			}
			if _, err := in.Write(b); err != nil {
				return
			}
		}
	})
	defer out.CancelRead(0)
	defer out.CancelWrite(0)
	ask()
	w.fixed.forward(false)
	worst := time.Duration(0)
	for range 10 {
		worst = max(worst, ask())
		time.Sleep(15 * time.Millisecond)
	}
	t.Logf("worst answer around the silence of eth0: %v", worst)
	if worst > 200*time.Millisecond { // silence alone takes 250 ms to be noticed
		t.Errorf("an answer took %v", worst)
	}
	if w.client.Metrics().Duplicated == 0 || w.server.Metrics().Duplicated == 0 {
		t.Errorf("%d and %d duplicated", w.client.Metrics().Duplicated, w.server.Metrics().Duplicated)
	}
	eventually(t, "the silence is noticed all the same", func() bool { ask(); return w.uses(t) == "wwan0" })
	w.fixed.forward(true)
	eventually(t, "back on eth0", func() bool { return w.uses(t) == "eth0" })
	second := w.link(t, "wwan0").BytesSent
	const bulk = 4 << 20
	transfer(t, w.c, w.s, bulk)
	if n := w.link(t, "wwan0").BytesSent - second; n > bulk/4 {
		t.Errorf("%d bytes of a bulk transfer went over the second link", n)
	}
}

// TestNoFlapping has the first link fall silent again and again: it is returned to less
// and less often, and the session lives on.
func TestNoFlapping(t *testing.T) {
	w := newTwoLinks(t, map[string]LinkPolicy{"wwan0": PolicyBackup}, false)
	e := startEcho(t, w.c, w.s)
	eventually(t, "eth0 is used, wwan0 stands by", func() bool {
		return w.uses(t) == "eth0" && w.link(t, "wwan0").State == LinkStandby
	})
	const rounds = 10
	moves := w.c.a.Info().Moves
	for range rounds {
		w.fixed.forward(false)
		e.resumed(t, time.Now().Add(20*time.Millisecond))
		time.Sleep(400 * time.Millisecond)
		w.fixed.forward(true)
		time.Sleep(1500 * time.Millisecond)
	}
	// Who follows each change at once moves twice in each round.
	moves = w.c.a.Info().Moves - moves
	t.Logf("%d moves in %d rounds", moves, rounds)
	if moves == 0 || moves > rounds {
		t.Errorf("%d moves in %d rounds", moves, rounds)
	}
	e.resumed(t, time.Now())
}
