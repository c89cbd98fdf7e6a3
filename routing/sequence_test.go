package routing

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSequencer(t *testing.T) {
	dir := t.TempDir()
	now := testTime
	var last uint64
	next := func(s *sequencer, at time.Time, known ...uint64) {
		t.Helper()
		n, err := s.next(at, known...)
		if err != nil {
			t.Fatal(err)
		}
		if n <= last {
			t.Fatalf("%d after %d", n, last)
		}
		for _, k := range known {
			if n <= k {
				t.Fatalf("%d with %d known", n, k)
			}
		}
		last = n
	}
	open := func() *sequencer {
		t.Helper()
		s, err := openSequencer(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	next(s, now)
	next(s, now)                 // within one microsecond
	next(s, now.Add(-time.Hour)) // the clock went back
	next(s, now, last+1<<40)     // the DHT knows better
	for range 100 {              // kill -9 and start again, at any moment
		next(open(), now.Add(-24*time.Hour))
	}
	next(open(), time.Unix(-1, 0)) // a clock before all clocks

	if err := os.WriteFile(filepath.Join(dir, "sequence"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openSequencer(dir)
	if err == nil {
		t.Error("a damaged file is not reported")
	}
	if n, err := s.next(now); err != nil || n == 0 {
		t.Errorf("with a damaged file: %d, %v", n, err)
	}
	if _, err := (&sequencer{path: filepath.Join(dir, "missing", "sequence")}).next(now); err == nil {
		t.Error("a number that could not be reserved was given out")
	}
}
