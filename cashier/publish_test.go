package cashier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// board is where records are put, as the DHT would keep them.
type board struct {
	mu      sync.Mutex
	records map[name.Name]name.Record
	puts    map[name.Name]int
	fail    map[name.Name]int // how many puts of it are still to fail
}

func newBoard() *board {
	return &board{records: map[name.Name]name.Record{}, puts: map[name.Name]int{}, fail: map[name.Name]int{}}
}

func (b *board) put(now time.Time) func(context.Context, name.Name, []byte) error {
	return func(_ context.Context, n name.Name, signed []byte) error {
		r, err := name.Open(n, signed, []identity.NodeID{authority.Node()}, now)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.puts[n]++
		if b.fail[n] > 0 {
			b.fail[n]--
			return errors.New("nobody stored it")
		}
		if old, ok := b.records[n]; !ok || name.Newer(r, nil, old, nil) {
			b.records[n] = r
		}
		return nil
	}
}

// wait waits until the board is as wanted.
func (b *board) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		b.mu.Lock()
		done := ok()
		b.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPublish(t *testing.T) {
	l := open(t, func(c *Config) { c.Clock = func() time.Time { return epoch }; c.Parameters.MaxNames = 1000 })
	ctx := t.Context()
	w := NewWallet(alice, network, l, nil)
	for i := range 300 { // more than one page
		must[Receipt](t)(w.Register(ctx, name.Name(fmt.Sprintf("old-%03d", i)), files))
	}
	b := newBoard()
	b.fail["old-007"], b.fail["new"] = 1, 2
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- l.Publish(ctx, Publisher{Put: b.put(epoch), Interval: time.Hour, Retry: 5 * time.Millisecond})
	}()
	b.wait(t, "all that was there", func() bool { return len(b.records) == 300 })
	must[Receipt](t)(w.Register(ctx, "new", files))
	b.wait(t, "a new name, at the third try", func() bool { return b.records["new"].Service == files.Service() && b.puts["new"] == 3 })
	must[Receipt](t)(w.Update(ctx, "new", mail))
	b.wait(t, "a change", func() bool { return b.records["new"].Service == mail.Service() })
	must[Receipt](t)(w.Release(ctx, "new"))
	b.wait(t, "a tombstone", func() bool { return b.records["new"].Released })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if m := l.Metrics(); m.Published < 303 || m.PublishFailed != 3 {
		t.Errorf("metrics %+v", m)
	}
	if n := b.puts["old-001"]; n != 1 {
		t.Errorf("a name that did not change was put %d times", n)
	}
	go func() { done <- l.Publish(t.Context(), Publisher{Put: b.put(epoch), Interval: time.Millisecond}) }()
	b.wait(t, "everything again", func() bool { return b.puts["old-001"] >= 3 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Publish(t.Context(), Publisher{}); err == nil {
		t.Error("published to nowhere")
	}
}

// Records are signed afresh before they get old, but not differently each time;
// tombstones are forgotten once nothing can be left of what they replace.
func TestRecordsAreFresh(t *testing.T) {
	now := epoch.Truncate(time.Hour)
	var mu sync.Mutex
	l := open(t, func(c *Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	ctx := t.Context()
	w := wallet(alice, l)
	must[Receipt](t)(w.Register(ctx, "kept", files))
	must[Receipt](t)(w.Register(ctx, "gone", files))
	must[Receipt](t)(w.Release(ctx, "gone"))
	records := func() map[name.Name]string {
		out := map[name.Name]string{}
		for r, err := range l.Records(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := name.Open(r.Record.Name, r.Signed, []identity.NodeID{authority.Node()}, now.Add(6*24*time.Hour)); err != nil {
				t.Errorf("%s lives less than six days: %v", r.Record.Name, err)
			}
			out[r.Record.Name] = string(r.Signed)
		}
		return out
	}
	pass := func(d time.Duration) {
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
	}
	first := records()
	if len(first) != 2 {
		t.Fatalf("%d records", len(first))
	}
	pass(59 * time.Minute)
	if records()["kept"] != first["kept"] {
		t.Error("signed differently within the hour")
	}
	pass(time.Hour)
	if records()["kept"] == first["kept"] {
		t.Error("not signed afresh after an hour")
	}
	pass(7 * 24 * time.Hour)
	if _, ok := records()["gone"]; !ok {
		t.Error("the tombstone went while older records are valid")
	}
	pass(24 * time.Hour)
	if left := records(); len(left) != 1 || left["kept"] == "" {
		t.Errorf("%d records after eight days", len(left))
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range l.Records(cancelled) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}
