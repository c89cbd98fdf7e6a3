package meter

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// world is a payer, a payee, a line between them and a disk at either end, in virtual
// time and on one thread.
type world struct {
	tb       testing.TB
	random   *rand.Rand
	now      time.Duration
	queue    events
	number   int
	line     line
	key      identity.PrivateKey
	payer    *payer
	payee    *payee
	binding  [32]byte
	diskTime time.Duration

	datagrams bool
	lossPPM   uint64 // of data, when datagrams
	down, up  int64  // bytes still to be carried each way
	sentDown  uint64 // by the payee
	gotDown   uint64 // by the payer
	sentUp    uint64
	buffer    uint64 // arrived at the payee, not taken by it yet
	gotUp     uint64
	admitted  uint64
	claimed   uint64 // sent with the newest claim
	freeDown  time.Duration
	freeUp    time.Duration
	blockedD  bool
	stopped   bool   // the payer pays no more
	window    uint64 // when bytes were leased last
	vouchers  int
	writes    int
}

// line is what lies between the two.
type line struct {
	rate       uint64 // bytes per second
	delay      time.Duration
	jitter     time.Duration
	loss, dupl int // of frames, per thousand
}

type event struct {
	at     time.Duration
	number int
	do     func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].number < q[j].number
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

var testNetwork = identity.NetworkID{1, 2, 3}

func testKey(n byte) identity.PrivateKey {
	return identity.NewKeyFromSeed([32]byte{31: n})
}

func testChannel(price voucher.Price, deposit voucher.Amount) Channel {
	session := testKey(3)
	return Channel{
		ID: voucher.ChannelID{9}, Client: testKey(1).Account(), Deposit: deposit, SessionKey: session.Public(), Open: true,
		Ask: voucher.Ask{
			Service: testKey(4).Service(), Node: testKey(2).Node(), Account: testKey(2).Account(), Price: price, ValidTo: 1 << 40, Sequence: 1,
		},
	}
}

func newWorld(tb testing.TB, seed uint64, l line, c Channel) *world {
	w := &world{
		tb: tb, random: rand.New(rand.NewPCG(seed, 0)), line: l, key: testKey(3), binding: [32]byte{7},
		diskTime: 5 * time.Millisecond,
		payer:    newPayer(c, testNetwork, voucher.Voucher{}, 0, reservation{}),
		payee:    newPayee(c, testNetwork, voucher.Voucher{}, 0),
	}
	w.payer.roundTrip, w.payee.roundTrip = 2*l.delay, 2*l.delay
	return w
}

func (w *world) after(d time.Duration, do func()) {
	w.number++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.number, do})
}

// send carries a frame: it may be lost, late, or come twice.
func (w *world) send(do func()) {
	for range 2 {
		if w.random.IntN(1000) >= w.line.loss {
			w.after(w.line.delay+time.Duration(w.random.Int64N(int64(w.line.jitter)+1)), do)
		}
		if w.random.IntN(1000) >= w.line.dupl {
			return
		}
	}
}

const unit = 16 << 10

// run carries everything both ways and returns how long that took.
func (w *world) run(limit time.Duration) time.Duration {
	w.payer.Start(w.now)
	w.after(w.line.delay, func() { w.payee.Start(w.now, w.binding); w.carryDown() })
	w.after(0, w.payerWork)
	w.after(0, w.payerTimer)
	w.after(0, w.payeeTimer)
	w.after(0, w.carryUp)
	for len(w.queue) > 0 && w.now < limit {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		w.check()
		if w.done() {
			return w.now
		}
	}
	return w.now
}

func (w *world) done() bool {
	return !w.stopped && w.down <= 0 && w.up <= 0 && w.buffer == 0 && (w.datagrams || w.gotDown == w.sentDown) &&
		w.gotUp == w.sentUp && (w.datagrams || w.payee.newest.Bytes >= w.gotDown+w.gotUp)
}

// check asserts what must hold after every event.
func (w *world) check() {
	received := w.gotDown + w.gotUp
	if paid := w.payer.newest.Bytes; paid > max(Prepaid, received) {
		w.tb.Fatalf("%s: the client paid for %d bytes of %d", w.now, paid, received)
	}
	if passed := max(PrepaidTime, w.now); w.payer.newest.Milliseconds > milliseconds(passed) {
		w.tb.Fatalf("%s: the client paid for %d ms", w.now, w.payer.newest.Milliseconds)
	}
	if w.payee.newest.Sequence > w.payer.newest.Sequence || w.payee.kept.Sequence > w.payee.newest.Sequence {
		w.tb.Fatalf("%s: the payee is ahead of the payer", w.now)
	}
	if w.payer.newest.Sequence > w.payer.reserved.Sequence || w.payer.newest.Amount > w.payer.reserved.Amount {
		w.tb.Fatalf("%s: signed beyond what was reserved", w.now)
	}
}

// lease leases bytes: that is when they may become a loss.
func (w *world) lease(n uint64) bool {
	window := w.payee.Window()
	if w.payee.Lease(w.now, n, n, w.datagrams) == 0 {
		return false
	}
	w.window = window
	if window > MaxWindow || window > max(w.payee.kept.Bytes, Prepaid) {
		w.tb.Fatalf("%s: a window of %d with %d paid", w.now, window, w.payee.kept.Bytes)
	}
	if w.payee.leased > w.payee.kept.Bytes+window+w.payee.lost() {
		w.tb.Fatalf("%s: %d carried, %d paid and on disk, window %d", w.now, w.payee.leased, w.payee.kept.Bytes, window)
	}
	return true
}

// carryDown sends the next piece from the payee's side as soon as line and credit let.
func (w *world) carryDown() {
	if w.down <= 0 {
		return
	}
	if w.freeDown > w.now {
		w.after(w.freeDown-w.now, w.carryDown)
		return
	}
	n := uint64(min(w.down, unit))
	if w.datagrams {
		n = min(n, 1200)
	}
	if !w.lease(n) {
		w.blockedD = true
		return
	}
	w.down -= int64(n)
	w.sentDown += n
	w.freeDown = w.now + time.Duration(n*uint64(time.Second)/w.line.rate)
	if !w.datagrams || w.random.Uint64N(1_000_000) >= w.lossPPM {
		w.after(w.freeDown-w.now+w.line.delay, func() {
			w.gotDown += n
			w.payer.Count(w.now, n)
			w.payerWork()
		})
	}
	w.after(w.freeDown-w.now, w.carryDown)
}

// carryUp sends the next piece from the payer's side, while the payee's buffer lets.
func (w *world) carryUp() {
	if w.up <= 0 {
		return
	}
	if w.freeUp > w.now || w.sentUp-w.gotUp > 16<<20 {
		w.after(max(w.freeUp-w.now, time.Millisecond), w.carryUp)
		return
	}
	n := uint64(min(w.up, unit))
	w.up -= int64(n)
	w.sentUp += n
	w.freeUp = w.now + time.Duration(n*uint64(time.Second)/w.line.rate)
	w.after(w.freeUp-w.now+w.line.delay, func() { w.buffer += n; w.takeUp() })
	w.after(w.freeUp-w.now, w.carryUp)
}

// takeUp is the payee's application reading, which waits for credit.
func (w *world) takeUp() {
	for w.buffer > 0 {
		n := min(w.buffer, unit)
		if !w.lease(n) {
			break
		}
		w.buffer -= n
		w.gotUp += n
	}
	if w.gotUp-w.claimed >= minInterval {
		w.claim()
	}
}

func (w *world) claim() {
	received, passed := w.gotUp, w.payee.Claim(w.now)
	w.claimed = received
	w.send(func() {
		w.payer.Claim(passed)
		if admit := min(received, w.sentUp); admit > w.admitted {
			w.payer.Count(w.now, admit-w.admitted)
			w.admitted = admit
		}
		w.payerWork()
	})
}

// payerWork does what the payer wants done.
func (w *world) payerWork() {
	if w.stopped {
		return
	}
	if r, ok := w.payer.Reserve(w.now); ok {
		w.writes++
		w.after(w.diskTime, func() { w.payer.Reserved(r); w.payerWork() })
	}
	if deposit, ok := w.payer.TopUp(w.now); ok {
		c := w.payer.channel
		c.Deposit = deposit
		w.after(300*time.Millisecond, func() { w.payer.Update(c); w.payee.Update(c); w.payerWork() })
	}
	end := w.down <= 0 && w.up <= 0
	for w.payer.Due(w.now, end) {
		v, ok := w.payer.Sign(w.now)
		if !ok {
			return
		}
		v.Binding = w.binding
		v.Sign(w.key, testNetwork)
		w.payer.Signed(w.now, v)
		w.vouchers++
		w.send(func() { w.receive(v) })
	}
}

func (w *world) payerTimer() {
	w.payerWork()
	if v, ok := w.payer.Repeat(w.now); ok && !w.stopped {
		w.send(func() { w.receive(v) })
	}
	w.after(max(w.payer.Wake(w.now), 5*time.Millisecond), w.payerTimer)
}

// payeeTimer repeats claims that were not answered.
func (w *world) payeeTimer() {
	if w.payee.Owed() > 0 || w.payee.channel.Ask.Price.PerHour > 0 {
		w.claim()
	}
	w.after(max(250*time.Millisecond, 2*w.line.delay), w.payeeTimer)
}

// receive is a voucher's arrival.
func (w *world) receive(v voucher.Voucher) {
	err := w.payee.Check(v)
	if err == nil {
		if err = verify(v, w.payee.channel.SessionKey, testNetwork); err == nil {
			err = w.payee.Accept(v)
		}
	}
	if err != nil && !errors.Is(err, ErrStale) && !errors.Is(err, ErrDeposit) {
		w.tb.Fatalf("%s: %v", w.now, err)
	}
	w.keep()
	sequence := w.payee.newest.Sequence
	w.send(func() { w.payer.Ack(sequence) })
}

func (w *world) keep() {
	if v, _, ok := w.payee.Keep(false); ok {
		w.writes++
		w.after(w.diskTime, func() {
			w.payee.Kept(v)
			w.keep()
			w.takeUp()
			if w.blockedD {
				w.blockedD = false
				w.carryDown()
			}
		})
	}
}

var testPrice = voucher.Price{PerGiB: 1_000_000, PerHour: 10_000}

// Over every kind of line both ways, nothing ever waits for ever, and at every
// instant the client has paid for nothing it did not receive, and the provider's loss
// is within the window.
func TestSimulate(t *testing.T) {
	rates := []uint64{12_500, 125_000, 1_250_000, 12_500_000, 125_000_000, 1_250_000_000}
	delays := []time.Duration{500 * time.Microsecond, 5 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond}
	seeds := 3
	if testing.Short() {
		seeds = 1
	}
	for _, rate := range rates {
		for _, delay := range delays {
			for seed := range uint64(seeds) {
				name := fmt.Sprintf("%dkbit-%s-%d", rate/125, 2*delay, seed)
				t.Run(name, func(t *testing.T) {
					r := rand.New(rand.NewPCG(seed, rate))
					l := line{rate: rate, delay: delay, jitter: time.Duration(r.Int64N(int64(delay))), loss: r.IntN(300), dupl: r.IntN(100)}
					w := newWorld(t, seed, l, testChannel(testPrice, 10_000_000))
					w.diskTime = time.Duration(r.IntN(20)) * time.Millisecond
					size := min(max(int64(rate)*2, 512<<10), 64<<20)
					w.down, w.up = size, size/4
					took := w.run(time.Hour)
					if !w.done() {
						t.Fatalf("stuck: %d and %d bytes left after %s; owed %d", w.down, w.up, took, w.payee.Owed())
					}
					ideal := time.Duration(uint64(size)*uint64(time.Second)/rate) + 10*delay
					if took > 20*ideal+30*time.Second {
						t.Errorf("%s instead of %s", took, ideal)
					}
				})
			}
		}
	}
}

// Lost datagrams are written off within the allowance; nothing stops.
func TestSimulateLostDatagrams(t *testing.T) {
	for seed := range uint64(5) {
		c := testChannel(testPrice, 10_000_000)
		c.Ask.LossAllowance = 50_000
		w := newWorld(t, seed, line{rate: 1_250_000, delay: 20 * time.Millisecond, jitter: 10 * time.Millisecond, loss: 30}, c)
		w.datagrams, w.lossPPM = true, 30_000
		w.down = 8 << 20
		w.run(time.Minute)
		if w.down > 0 {
			t.Errorf("seed %d: stuck with %d bytes left", seed, w.down)
		}
	}
}

// Loss beyond the allowance ends in the provider giving no more, not in its loss.
func TestSimulateLossBeyondAllowance(t *testing.T) {
	c := testChannel(testPrice, 10_000_000)
	c.Ask.LossAllowance = 10_000
	w := newWorld(t, 1, line{rate: 1_250_000, delay: 20 * time.Millisecond}, c)
	w.datagrams, w.lossPPM = true, 500_000
	w.down = 64 << 20
	w.run(time.Minute)
	if missing := w.sentDown - w.payee.newest.Bytes; missing > MaxWindow+w.payee.lost() || w.down == 0 {
		t.Errorf("%d bytes were delivered and never paid", missing)
	}
}

// A client that stops paying gets at most the window more.
func TestSimulateUnpaid(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := line{rate: 125_000 << r.IntN(12), delay: time.Duration(1+r.IntN(100)) * time.Millisecond, loss: r.IntN(100)}
		w := newWorld(t, seed, l, testChannel(testPrice, 10_000_000))
		w.down = 1 << 40
		stop := time.Duration(r.Int64N(int64(3 * time.Second)))
		w.after(stop, func() { w.stopped = true })
		w.run(stop + 5*time.Second)
		paid := w.payee.newest.Bytes
		if more := w.sentDown - min(w.sentDown, paid); more > w.window {
			t.Errorf("seed %d: %d bytes more than the %d paid for, window %d", seed, more, paid, w.window)
		}
		if w.sentDown == 0 && stop > 2*time.Second {
			t.Errorf("seed %d: nothing was carried at all", seed)
		}
	}
}

// Paying costs at most 3 % of the throughput.
func TestSimulateThroughput(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  uint64
		delay time.Duration
		size  int64
	}{
		{"1Gbit-1ms", 125_000_000, 500 * time.Microsecond, 1 << 30},
		{"100Mbit-80ms", 12_500_000, 40 * time.Millisecond, 200 << 20},
		{"100Mbit-300ms", 12_500_000, 150 * time.Millisecond, 200 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, line{rate: c.rate, delay: c.delay}, testChannel(testPrice, 100_000_000))
			w.diskTime = 20 * time.Millisecond
			w.down = c.size
			took := w.run(time.Hour)
			// Credit grows as it is paid, twofold in each round trip, as TCP's slow start.
			ideal := time.Duration(uint64(c.size)*1000/c.rate)*time.Millisecond + 3*c.delay
			start := time.Duration(0)
			if c.delay > 100*time.Millisecond {
				start = 16 * c.delay
			}
			t.Logf("%s, %s without paying (%.2f %% more), %d vouchers, %d writes", took, ideal, 100*(float64(took)/float64(ideal)-1), w.vouchers, w.writes)
			if !w.done() || took > ideal*103/100+start {
				t.Errorf("took %s instead of %s", took, ideal)
			}
		})
	}
}
