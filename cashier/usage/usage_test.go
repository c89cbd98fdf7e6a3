package usage

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func testConfig(fs vfs.FS, now *time.Time) Config {
	return Config{fs: fs, FlushInterval: 10 * time.Minute, Clock: func() time.Time { return *now }}
}

func openLog(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open("usage", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func testRecord(nonce byte, at time.Time) Record {
	return Record{
		Nonce: [32]byte{nonce}, Peer: identity.NodeID{1}, Service: identity.ServiceID{2}, Port: 80, Protocol: 6,
		Channel: voucher.ChannelID{3}, Payer: true, Sent: 10, Received: 20, Milliseconds: 30, Amount: 40,
		Start: at.UnixMilli(), End: at.Add(time.Second).UnixMilli(),
	}
}

func all(t *testing.T, l *Log, since, until time.Time) []Record {
	t.Helper()
	var out []Record
	for r, err := range l.Records(since, until) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// TestRecordsSurviveAndArePruned: what was flushed is there after a restart, in order
// of time; what is older than the retention is gone.
func TestRecordsSurviveAndArePruned(t *testing.T) {
	fs, now := vfs.NewMem(), noon
	l := openLog(t, testConfig(fs, &now))
	want := []Record{testRecord(1, noon), testRecord(2, noon), testRecord(1, noon.Add(time.Minute))}
	for _, i := range []int{2, 0, 1} {
		l.Record(want[i])
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := all(t, l, noon, noon.Add(time.Hour)); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := all(t, l, noon.Add(time.Second), noon.Add(time.Hour)); len(got) != 1 {
		t.Errorf("%d records of the later period", len(got))
	}
	l.Record(testRecord(1, noon.Add(time.Minute))) // the same again is another record
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
	for _, err := range l.Records(noon, noon.Add(time.Hour)) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	}
	l = openLog(t, testConfig(fs, &now))
	if got := all(t, l, time.Time{}, noon.Add(time.Hour)); len(got) != 4 {
		t.Errorf("%d records after a restart", len(got))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	now = noon.Add(121 * 24 * time.Hour)
	l = openLog(t, testConfig(fs, &now))
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := all(t, l, time.Time{}, now); len(got) != 0 {
		t.Errorf("%d records after their retention", len(got))
	}
}

// TestFlushedRecordsSurvivePowerCuts: what Flush returned for is on the disk.
func TestFlushedRecordsSurvivePowerCuts(t *testing.T) {
	fs, now := vfs.NewCrashableMem(), noon
	l := openLog(t, testConfig(fs, &now))
	for i := range byte(10) {
		l.Record(testRecord(i, noon))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, err := Open("usage", testConfig(fs.CrashClone(vfs.CrashCloneCfg{}), &now))
		if err != nil {
			t.Fatal(err)
		}
		if got := all(t, after, noon, noon.Add(time.Hour)); len(got) != int(i)+1 {
			t.Errorf("%d records, want %d", len(got), i+1)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewerLogIsRefused and not touched.
func TestNewerLogIsRefused(t *testing.T) {
	fs, now := vfs.NewMem(), noon
	if err := openLog(t, testConfig(fs, &now)).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("usage", &pebble.Options{FS: fs, FormatMajorVersion: pebbleFormat})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set(formatKey, []byte{0, 0, 0, 0, 0, 0, 0, 2}, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := fs.List("usage")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("usage", testConfig(fs, &now)); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
	after, _ := fs.List("usage")
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("files before %v, after %v", before, after)
	}
}

// TestRecordNeverWaits fills the queue of a log that does not write.
func TestRecordNeverWaits(t *testing.T) {
	l := &Log{records: make(chan Record, 2)}
	for range 5 {
		l.Record(Record{})
	}
	if m := l.Metrics(); m.Dropped != 3 {
		t.Errorf("%+v", m)
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Retention: 1, FlushInterval: 1}.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 2 {
		t.Errorf("not every fault is reported: %v", err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestStatement puts two channels of two accounts and a free session side by side.
func TestStatement(t *testing.T) {
	mine, provider, other := identity.AccountID{1}, identity.AccountID{2}, identity.AccountID{3}
	paid, earned := voucher.ChannelID{10}, voucher.ChannelID{11}
	positions := []Position{
		{Channel: paid, Client: mine, Provider: provider, Promised: 100, Settled: 60, Deposit: 1000, State: "open"},
		{Channel: earned, Client: other, Provider: mine, Promised: 50, Settled: 50, State: "closed"},
	}
	at := func(nonce byte, channel voucher.ChannelID, payer bool, amount voucher.Amount, when time.Time) Record {
		r := testRecord(nonce, when)
		r.Channel, r.Payer, r.Amount = channel, payer, amount
		return r
	}
	records := []Record{
		at(1, paid, true, 30, noon.Add(-time.Hour)), // before the period
		at(1, paid, true, 40, noon),
		at(1, paid, true, 10, noon.Add(time.Minute)),
		at(2, paid, true, 15, noon.Add(time.Minute)),
		at(3, earned, false, 60, noon),
		at(4, voucher.ChannelID{}, true, 0, noon),
	}
	list := func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
	s, err := MakeStatement(list, positions, identity.AccountID{}, noon, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Lines) != 3 || s.Paid != 65 || s.Earned != 60 || s.SettledPaid != 60 || s.SettledEarned != 50 || s.UnsettledPaid != 40 || s.UnsettledEarned != 0 {
		t.Fatalf("%+v", s)
	}
	first := s.Lines[0]
	if first.Channel != paid || first.Sessions != 2 || first.Used != 65 || first.UsedAll != 95 || first.Received != 60 ||
		first.Unpromised != (Difference{true, 5}) || first.Unsettled != (Difference{false, 40}) || first.Direction() != "paid" {
		t.Errorf("%+v", first)
	}
	if l := s.Lines[1]; l.Direction() != "earned" || l.Unpromised.String() != "0.00001" {
		t.Errorf("%+v", l)
	}
	if l := s.Lines[2]; l.Direction() != "free" || !l.Unpromised.isZero() {
		t.Errorf("%+v", l)
	}
	s, err = MakeStatement(list, positions, other, noon, noon.Add(time.Hour))
	if err != nil || len(s.Lines) != 1 || s.Lines[0].Channel != earned {
		t.Errorf("of the other account: %+v, %v", s, err)
	}
	var csv strings.Builder
	if err := s.WriteCSV(&csv); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(csv.String()), "\n")
	if len(lines) != 2 || strings.Count(lines[0], ",") != strings.Count(lines[1], ",") || !strings.Contains(lines[1], ",0.00006,") {
		t.Errorf("%s", csv.String())
	}
	broken := errors.New("broken")
	if _, err := MakeStatement(func(yield func(Record, error) bool) { yield(Record{}, broken) }, nil, other, noon, noon); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func (d Difference) isZero() bool { return d.Amount == 0 }

func FuzzDecodeRecord(f *testing.F) {
	r := testRecord(1, noon)
	whole, err := identity.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := identity.Marshal(r)
		if err != nil || string(again) != string(b) {
			t.Errorf("%x is read as %+v and written as %x, %v", b, r, again, err)
		}
		if k := r.key(1); len(k) != keySize {
			t.Errorf("key of %d bytes", len(k))
		}
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	l := &Log{flush: make(chan chan error), stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
