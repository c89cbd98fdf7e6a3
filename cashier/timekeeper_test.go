package cashier

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// twoClocks are a clock that is set and one that nobody sets.
type twoClocks struct {
	mu      sync.Mutex
	wall    time.Time
	elapsed time.Duration
}

func (c *twoClocks) configure(cfg *Config) {
	cfg.Clock = func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.wall }
	cfg.elapsed = func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.elapsed }
}

// pass lets time pass; set sets the clock besides.
func (c *twoClocks) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.elapsed = c.wall.Add(d), c.elapsed+d
}

func (c *twoClocks) set(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.wall = c.wall.Add(d) }

func TestTimekeeper(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name   string
		atOpen time.Duration // of the clock, after the newest block
		noted  time.Duration
		steps  [][2]time.Duration // passes, and is set
		want   time.Duration      // the ledger's time after the newest block
		held   time.Duration
	}{
		{"runs on", 0, 0, [][2]time.Duration{{time.Hour, 0}, {day, 0}}, 25 * time.Hour, 0},
		{"is put right a little", 0, 0, [][2]time.Duration{{time.Hour, 9 * time.Minute}, {0, -9 * time.Minute}}, time.Hour, 0},
		{"jumps ahead", 0, 0, [][2]time.Duration{{time.Minute, 11 * time.Minute}, {time.Minute, 0}}, 2 * time.Minute, 11 * time.Minute},
		{"jumps back", 0, 0, [][2]time.Duration{{time.Hour, -day}, {time.Minute, 0}}, time.Hour + time.Minute, -day},
		{"jumps ahead and is put right", 0, 0, [][2]time.Duration{{time.Minute, 365 * day}, {time.Hour, -365 * day}, {time.Minute, 0}}, time.Hour + 2*time.Minute, 0},
		{"halt of a week", 7 * day, 0, [][2]time.Duration{{time.Minute, 0}}, 7*day + time.Minute, 0},
		{"years ahead at open", 3650 * day, 0, [][2]time.Duration{{time.Minute, 0}}, time.Minute, 3650 * day},
		{"years ahead at open and put right", 3650 * day, 0, [][2]time.Duration{{time.Minute, -3649 * day}}, day + time.Minute, 0},
		{"no clock at open, then the time", -20000 * day, 0, [][2]time.Duration{{time.Minute, 0}, {time.Minute, 20003 * day}}, 3*day + 2*time.Minute, 0},
		{"no clock at open, then years ahead", -20000 * day, 0, [][2]time.Duration{{time.Minute, 0}, {time.Minute, 20400 * day}}, 2 * time.Minute, 400 * day},
		{"a jump noted before a restart", 20 * day, 20 * day, [][2]time.Duration{{time.Hour, 0}}, time.Hour, 20 * day},
		{"a jump noted, put right before a restart", day, 20 * day, [][2]time.Duration{{time.Hour, 0}}, day + time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clocks := &twoClocks{wall: epoch.Add(tt.atOpen), elapsed: time.Hour}
			cfg := Config{Network: network}
			clocks.configure(&cfg)
			k := newTimekeeper(cfg.withDefaults(), epoch.Unix(), tt.noted)
			for _, s := range tt.steps {
				clocks.pass(s[0])
				clocks.set(s[1])
				k.now(epoch.Unix())
			}
			got, held := k.now(epoch.Unix()).Sub(epoch), k.holds()
			if (got-tt.want).Abs() > 2*time.Minute || (held-tt.held).Abs() > 2*time.Minute {
				t.Errorf("%s after the newest block, %s held; want %s and %s", got, held, tt.want, tt.held)
			}
		})
	}
}

// A clock that jumps does not make anything expire until the operator says so, not
// even by way of a restart.
func TestClockJump(t *testing.T) {
	fs := vfs.NewMem()
	clocks := &twoClocks{wall: epoch}
	config := func(c *Config) {
		clocks.configure(c)
		c.fs = fs
		c.Tick = time.Hour
		c.Balances = []GenesisBalance{{alice.Account(), 100}}
	}
	l := open(t, config)
	until := epoch.Unix() + 3600
	must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})))
	clocks.set(48 * time.Hour)
	l.watchClock()
	second := payment(t, alice, until, Transfer{transferNumber(2), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})
	must[Receipt](t)(l.Submit(t.Context(), second))
	if c := l.Clock(); c.Held != 48*time.Hour || c.Time.Unix() != epoch.Unix() {
		t.Errorf("clock %+v", c)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	clocks.pass(time.Minute)
	l = open(t, config)
	if c := l.Clock(); c.Held != 48*time.Hour || c.Time.Unix() != epoch.Unix()+60 {
		t.Errorf("after a restart: clock %+v", c)
	}
	must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, Transfer{transferNumber(3), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})))
	c, err := l.AcceptClock()
	if err != nil || c.Held != 0 || c.Time.Unix() != epoch.Add(48*time.Hour+time.Minute).Unix() {
		t.Errorf("accepted: %+v, %v", c, err)
	}
	if _, err := l.Submit(t.Context(), payment(t, alice, until, Transfer{transferNumber(4), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})); !errors.Is(err, ErrExpired) {
		t.Errorf("after the jump: %v", err)
	}
	clocks.set(-72 * time.Hour)
	if c, err := l.AcceptClock(); !errors.Is(err, ErrClockBehind) {
		t.Errorf("a clock behind the newest block was accepted: %+v, %v", c, err)
	}
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// Ticks: one for what falls due, one in each epoch while something waits, none on a
// ledger where nothing does.
func TestTicks(t *testing.T) {
	clocks := &twoClocks{wall: epoch}
	l := open(t, func(c *Config) {
		clocks.configure(c)
		c.Tick = time.Millisecond
		c.Balances = []GenesisBalance{{alice.Account(), 100}}
	})
	height := func() uint64 { return l.Metrics().Height }
	settle := func() uint64 {
		t.Helper()
		for h := height(); ; h = height() {
			time.Sleep(30 * time.Millisecond)
			if height() == h {
				return h
			}
		}
	}
	clocks.pass(24 * time.Hour)
	if h := settle(); h != 0 {
		t.Fatalf("%d blocks of an empty ledger", h)
	}
	until := epoch.Add(26 * time.Hour).Unix()
	must[Receipt](t)(l.Submit(t.Context(), payment(t, alice, until, Transfer{transferNumber(1), []Move{{Kind: MovePay, To: bob.Account(), Amount: 1}}})))
	h := settle()
	clocks.pass(defaultEpoch)
	if got := settle(); got != h+1 {
		t.Errorf("%d blocks in an epoch while an ID waits to be forgotten, want 1", got-h)
	}
	h = height()
	clocks.pass(3 * time.Hour)
	if got := settle(); got != h+1 {
		t.Errorf("%d blocks for an ID to be forgotten, want 1", got-h)
	}
	h = height()
	clocks.pass(240 * time.Hour)
	if got := settle(); got != h {
		t.Errorf("%d blocks where nothing waits", got-h)
	}
	if err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
