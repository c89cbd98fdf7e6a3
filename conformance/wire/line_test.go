package wire

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Unix(1_700_000_000, 0)

func numbered(n, size int) []byte {
	b := make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(b, uint64(n))
	return b
}

type arrival struct {
	Number int
	After  time.Duration
}

// send pushes count frames, one every gap, and returns what arrived and when.
func send(t *testing.T, seed uint64, c Conditions, count, size int, gap time.Duration) ([]arrival, Counters) {
	t.Helper()
	l, err := NewLine(seed, c)
	if err != nil {
		t.Fatal(err)
	}
	var got []arrival
	drain := func(now time.Time) {
		for {
			due, ok := l.Next()
			if !ok || due.After(now) {
				return
			}
			got = append(got, arrival{int(binary.BigEndian.Uint64(l.Pop(due))), due.Sub(start)})
		}
	}
	now := start
	for n := range count {
		drain(now)
		l.Push(now, numbered(n, size))
		now = now.Add(gap)
	}
	drain(now.Add(time.Hour))
	return got, l.Counters()
}

func TestPerfectCable(t *testing.T) {
	got, counters := send(t, 1, Conditions{}, 3, 100, time.Millisecond)
	want := []arrival{{0, 0}, {1, time.Millisecond}, {2, 2 * time.Millisecond}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Counters{Pushed: 3, Delivered: 3}, counters); d != "" {
		t.Error(d)
	}
}

func TestDelayAndJitterKeepTheOrder(t *testing.T) {
	c := Conditions{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}
	got, _ := send(t, 7, c, 1000, 100, time.Millisecond)
	if len(got) != 1000 {
		t.Fatalf("%d of 1000 frames arrived", len(got))
	}
	for i, a := range got {
		sent := time.Duration(a.Number) * time.Millisecond
		if a.Number != i || a.After < sent+c.Delay || a.After > sent+c.Delay+c.Jitter {
			t.Fatalf("frame %d arrived as number %d after %v", a.Number, i, a.After-sent)
		}
	}
}

func TestProbabilities(t *testing.T) {
	const count = 20_000
	_, c := send(t, 3, Conditions{Loss: 0.3, Duplicate: 0.1, Reorder: 0.2}, count, 100, time.Millisecond)
	near := func(name string, got uint64, of, p float64) {
		t.Helper()
		if share := float64(got) / of; share < p-0.02 || share > p+0.02 {
			t.Errorf("%s: %.3f of the frames, want %.3f", name, share, p)
		}
	}
	near("lost", c.Lost, count, 0.3)
	near("duplicated", c.Duplicated, count-float64(c.Lost), 0.1)
	near("reordered", c.Reordered, count-float64(c.Lost), 0.2)
	if c.Delivered != c.Pushed-c.Lost+c.Duplicated {
		t.Errorf("the counters do not add up: %+v", c)
	}
}

func TestReorderHoldsBack(t *testing.T) {
	got, c := send(t, 5, Conditions{Reorder: 0.1, ReorderBy: 5 * time.Millisecond}, 500, 100, time.Millisecond)
	behind := 0
	for i := 1; i < len(got); i++ {
		if got[i].Number < got[i-1].Number {
			behind++
		}
	}
	if len(got) != 500 || c.Reordered == 0 || behind == 0 {
		t.Errorf("%d frames arrived, %d reordered, %d out of order", len(got), c.Reordered, behind)
	}
}

func TestSameSeedSameFate(t *testing.T) {
	c := Conditions{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2, Duplicate: 0.1, Reorder: 0.1}
	first, _ := send(t, 42, c, 2000, 200, time.Millisecond)
	again, _ := send(t, 42, c, 2000, 200, time.Millisecond)
	if d := cmp.Diff(first, again); d != "" {
		t.Errorf("one seed, two outcomes:\n%s", d)
	}
	other, _ := send(t, 43, c, 2000, 200, time.Millisecond)
	if cmp.Equal(first, other) {
		t.Error("two seeds, one outcome")
	}
}

// A frame's fate must not depend on the fates of others, nor on the clock.
func TestFateIsIndependentOfTime(t *testing.T) {
	c := Conditions{Loss: 0.3}
	slow, _ := send(t, 9, c, 500, 100, time.Second)
	fast, _ := send(t, 9, c, 500, 1400, time.Microsecond)
	for i := range slow {
		if slow[i].Number != fast[i].Number {
			t.Fatalf("frame %d fared differently at another speed", slow[i].Number)
		}
	}
}

func TestRateAndQueue(t *testing.T) {
	// 1,000-byte frames at 8 Mb/s take 1 ms each; ten fit the queue.
	c := Conditions{Rate: 8_000_000, Queue: 10_000}
	got, counters := send(t, 1, c, 100, 1000, 0)
	if len(got) != 10 || counters.Overflowed != 90 {
		t.Fatalf("%d frames arrived and %d overflowed, want 10 and 90", len(got), counters.Overflowed)
	}
	for i, a := range got {
		if want := time.Duration(i+1) * time.Millisecond; a.After != want {
			t.Errorf("frame %d arrived after %v, want %v", i, a.After, want)
		}
	}
}

func TestMTU(t *testing.T) {
	l, err := NewLine(1, Conditions{MTU: 1280})
	if err != nil {
		t.Fatal(err)
	}
	l.Push(start, make([]byte, 1280+headerSize))
	l.Push(start, make([]byte, 1281+headerSize))
	if l.Pop(start) == nil || l.Pop(start) != nil {
		t.Error("the MTU does not hold")
	}
	if c := l.Counters(); c.TooBig != 1 {
		t.Errorf("%d frames too big, want 1", c.TooBig)
	}
}

func TestBlackoutLosesWhatIsOnItsWay(t *testing.T) {
	l, err := NewLine(1, Conditions{Delay: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	l.Push(start, numbered(1, 60))
	if err := l.Set(Conditions{Blackout: true}); err != nil {
		t.Fatal(err)
	}
	l.Push(start, numbered(2, 60))
	if _, ok := l.Next(); ok {
		t.Error("a frame survived the blackout")
	}
	if err := l.Set(Conditions{}); err != nil {
		t.Fatal(err)
	}
	l.Push(start, numbered(3, 60))
	if got := l.Pop(start); !bytes.Equal(got, numbered(3, 60)) {
		t.Errorf("after the blackout %x arrived", got)
	}
	if c := l.Counters(); c.Lost != 2 {
		t.Errorf("%d frames lost, want 2", c.Lost)
	}
}

func TestHeldFramesAreBounded(t *testing.T) {
	_, c := send(t, 1, Conditions{Delay: time.Minute}, maxHeld+10, 60, 0)
	if c.Overflowed != 10 {
		t.Errorf("%d frames overflowed, want 10", c.Overflowed)
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	err := Conditions{Loss: 1.5, Delay: -1, Rate: -1, MTU: -1, Queue: -1}.Validate()
	if err == nil {
		t.Fatal("nonsense was accepted")
	}
	for _, word := range []string{"Loss", "Delay", "Rate", "MTU", "Queue"} {
		if !bytes.Contains([]byte(err.Error()), []byte(word)) {
			t.Errorf("%q is not reported in: %v", word, err)
		}
	}
}
