package proofofservice

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// Errors of a Core.
var (
	// ErrUnknown is returned for an epoch or a row the core has no report of.
	ErrUnknown = errors.New("proofofservice: no report of this epoch or row")
	// ErrKeys is returned for keys that are missing, or one key in two places.
	ErrKeys = errors.New("proofofservice: bad keys")
)

// clockStep is how far the clock may stray from the monotonic one between two looks
// without being said to have stepped. NTP slews by less than a tenth of that.
const clockStep = 500 * time.Millisecond

// controlDelay is within which time after a failure the control probe must have
// worked.
const controlDelay = 30 * time.Second

// Keys are an inspector's secrets.
type Keys struct {
	// Account submits the reports.
	Account identity.AccountID
	// VRF makes the plans. It is no other key of the inspector's.
	VRF identity.PrivateKey
	// Rows hides which sessions were probes: the keys of all rows come from it.
	Rows [32]byte
}

// Epoch is one epoch as the ledger tells it.
type Epoch struct {
	evidence.Frame
	// Began is when the epoch began.
	Began time.Time
}

// Visit is one row to carry out.
type Visit struct {
	Epoch    uint64
	Row      int
	Planned  evidence.Row
	Provider evidence.Provider
	// Nonce is what the session is opened with, and Second what a second session is, to
	// a mobile provider whose first one died.
	Nonce, Second [32]byte
	// Until is when the visit is cut.
	Until time.Time
}

// Control is what came of the control probe.
type Control uint8

// The values of Control.
const (
	// NotAsked: nothing failed, so nobody asked.
	NotAsked Control = iota
	// Worked: known-good nodes answered.
	Worked
	// Silent: they did not.
	Silent
)

// Sighting is what came of a visit, as the prober saw it.
type Sighting struct {
	Verdict evidence.Verdict
	// Reason, when it is set, is a trouble of the inspector's own; the verdict is then
	// Void.
	Reason     evidence.Reason
	Start, End time.Time
	// Bytes went both ways. Latency is that of the first answer, Rate in bytes per
	// second that of a burst, Gap the longest silence.
	Bytes   int64
	Latency time.Duration
	Rate    int64
	Gap     time.Duration
	// Again says that it is of the second session.
	Again bool
	// Receipt is the provider's newest, if it gave one.
	Receipt *voucher.Receipt
	// Control is of ControlAt.
	Control   Control
	ControlAt time.Time
}

// Message is what a core wants posted: a Commitment or a Publication.
type Message interface{ epoch() uint64 }

// Commitment binds to a report.
type Commitment struct {
	Epoch  uint64
	Commit evidence.Commit
}

// Publication shows a report.
type Publication struct{ Reveal evidence.Reveal }

func (c Commitment) epoch() uint64  { return c.Epoch }
func (p Publication) epoch() uint64 { return p.Reveal.Epoch }

// stage is how far the report of an epoch is.
type stage uint8

const (
	inspecting stage = iota
	closed           // to be committed
	committed        // to be revealed, when the time comes
	revealed
	lost // a deadline passed
	stages
)

// progress is how far a row is.
type progress uint8

const (
	waiting progress = iota
	running
	done
)

// work is one epoch's.
type work struct {
	Epoch
	output   evidence.VRFOutput
	proof    evidence.VRFProof
	rows     []evidence.Row
	starts   []time.Time
	progress []progress
	trouble  []evidence.Reason // of rows under way
	outcomes []evidence.Outcome
	details  []evidence.Detail
	stage    stage
}

// Core is the state machine of an inspector. It does no I/O and has no clock. It
// belongs to one goroutine.
type Core struct {
	keys  Keys
	works []*work // in ascending order of epochs

	wall time.Time // at the last Tick
	mono time.Duration
}

// NewCore returns a core.
func NewCore(keys Keys) (*Core, error) {
	if keys.VRF.IsZero() || keys.Rows == [32]byte{} || keys.Account == (identity.AccountID{}) || keys.VRF.Account() == keys.Account {
		return nil, fmt.Errorf("%w: an account, a key for the VRF that is not the account's, and a secret for rows are wanted", ErrKeys)
	}
	return &Core{keys: keys}, nil
}

// Begin makes the plan of an epoch. Rows whose window is over are omitted. An epoch
// that is known already, or whose roster is empty, changes nothing.
func (c *Core) Begin(e Epoch, now time.Time) {
	i, found := slices.BinarySearchFunc(c.works, e.Epoch, func(w *work, n uint64) int { return cmp.Compare(w.Frame.Epoch, n) })
	if found || e.Roster == nil || e.Roster.Rows() == 0 {
		return
	}
	w := &work{Epoch: e}
	w.output, w.proof, w.rows = e.Plan(c.keys.VRF)
	n := len(w.rows)
	w.starts, w.progress, w.trouble = make([]time.Time, n), make([]progress, n), make([]evidence.Reason, n)
	w.outcomes, w.details = make([]evidence.Outcome, n), make([]evidence.Detail, n)
	rules := e.Roster.Rules()
	for i, row := range w.rows {
		key := c.rowKey(w, i, "first")
		w.starts[i] = e.Began.Add(time.Duration(row.Start+evidence.DelayOf(key, rules.Slot())) * time.Millisecond)
		w.details[i] = evidence.Detail{Row: uint16(i), Key: key}
	}
	c.works = slices.Insert(c.works, i, w)
	c.omit(w, now)
}

// rowKey returns the secret of a row. It depends on nothing but the inspector's
// secret and the row, so nothing of it is lost in a crash.
func (c *Core) rowKey(w *work, i int, session string) evidence.RowKey {
	h := hmac.New(sha256.New, c.keys.Rows[:])
	h.Write(w.output[:])
	h.Write(binary.BigEndian.AppendUint16([]byte(session), uint16(i)))
	return evidence.RowKey(h.Sum(nil))
}

func (c *Core) salt(w *work) [32]byte {
	h := hmac.New(sha256.New, c.keys.Rows[:])
	h.Write(w.output[:])
	h.Write([]byte("salt"))
	return [32]byte(h.Sum(nil))
}

// Tick lets time pass: mono is any monotonic clock. It returns the visits to begin
// now, at most as many as there is room for: the others wait, until their window is
// over. Where the clock stepped, what is under way becomes void.
func (c *Core) Tick(now time.Time, mono time.Duration, room int) []Visit {
	c.note(now, mono)
	var visits []Visit
	for _, w := range c.works {
		if w.stage != inspecting {
			continue
		}
		c.omit(w, now)
		for i, start := range w.starts {
			if w.progress[i] != waiting || now.Before(start) || len(visits) >= room {
				continue
			}
			w.progress[i] = running
			w.details[i].Start = ms(now)
			visits = append(visits, Visit{
				Epoch: w.Frame.Epoch, Row: i, Planned: w.rows[i], Provider: w.Roster.At(int(w.rows[i].Provider)),
				Nonce: evidence.NonceOf(w.output, i, w.details[i].Key), Second: evidence.NonceOf(w.output, i, c.rowKey(w, i, "again")),
				Until: w.cut(),
			})
		}
		w.close(now)
	}
	c.expire(now)
	return visits
}

// note compares the clocks.
func (c *Core) note(now time.Time, mono time.Duration) {
	if !c.wall.IsZero() {
		if strayed := now.Round(0).Sub(c.wall) - (mono - c.mono); strayed > clockStep || strayed < -clockStep {
			c.Interrupt(evidence.Clock)
		}
	}
	c.wall, c.mono = now.Round(0), mono // Round takes the monotonic reading off
}

// omit gives up rows whose window is over.
func (c *Core) omit(w *work, now time.Time) {
	rules := w.Roster.Rules()
	window := time.Duration(rules.Latest()) * time.Millisecond
	for i, row := range w.rows {
		if latest := w.Began.Add(time.Duration(row.Start)*time.Millisecond + window); w.progress[i] == waiting && now.After(latest) {
			w.progress[i] = done
		}
	}
}

// ends returns when the epoch ends, cut when visits are cut, and deadline until when
// commits count.
func (w *work) ends() time.Time {
	return w.Began.Add(time.Duration(w.Roster.Rules().Epoch) * time.Millisecond)
}

func (w *work) grace() time.Duration {
	return time.Duration(w.Roster.Rules().Grace) * time.Millisecond
}
func (w *work) cut() time.Time      { return w.ends().Add(w.grace() / 2) }
func (w *work) deadline() time.Time { return w.ends().Add(w.grace()) }

// revealUntil is the end of the next epoch.
func (w *work) revealUntil() time.Time {
	return w.ends().Add(time.Duration(w.Roster.Rules().Epoch) * time.Millisecond)
}

// close ends the inspecting, when all rows are done or the time is up.
func (w *work) close(now time.Time) {
	if w.stage != inspecting || now.Before(w.ends()) {
		return
	}
	if now.Before(w.cut()) && slices.ContainsFunc(w.progress, func(p progress) bool { return p != done }) {
		return
	}
	for i, p := range w.progress {
		if p == running {
			w.void(i, evidence.Boundary)
		}
		w.progress[i] = done
	}
	w.stage = closed
}

// expire notes deadlines that passed, and forgets what nobody can ask for any more.
func (c *Core) expire(now time.Time) {
	c.works = slices.DeleteFunc(c.works, func(w *work) bool {
		if w.stage == closed && !now.Before(w.deadline()) || w.stage == committed && !now.Before(w.revealUntil()) {
			w.stage = lost
		}
		// Rules.Keep epochs after the reveal to be challenged, as many to answer.
		keep := time.Duration(w.Roster.Rules().Epoch) * time.Millisecond * time.Duration(2*int(w.Roster.Rules().Keep)+1)
		return w.stage >= revealed && now.After(w.ends().Add(keep))
	})
}

// Interrupt notes that something of the inspector's own happened to all visits that
// are under way: its clock stepped (evidence.Clock), or it moved (evidence.OwnMove).
func (c *Core) Interrupt(reason evidence.Reason) {
	for _, w := range c.works {
		for i, p := range w.progress {
			if p == running && w.trouble[i] != evidence.Clock {
				w.trouble[i] = reason
			}
		}
	}
}

func (w *work) void(i int, reason evidence.Reason) {
	w.progress[i] = done
	w.outcomes[i] = evidence.Outcome{Verdict: evidence.Void, Reason: reason}
}

// Finish takes in what a visit came to, and returns the outcome that is reported.
// What comes after the visit was cut changes nothing.
func (c *Core) Finish(epoch uint64, row int, s Sighting, now time.Time) (evidence.Outcome, error) {
	w := c.find(epoch)
	if w == nil || row < 0 || row >= len(w.rows) {
		return evidence.Outcome{}, fmt.Errorf("row %d of epoch %d: %w", row, epoch, ErrUnknown)
	}
	if w.progress[row] == running {
		if s.Again {
			w.details[row].Key = c.rowKey(w, row, "again")
		}
		w.outcomes[row] = w.judge(row, s, now)
		w.progress[row] = done
		w.details[row].End = max(ms(now), w.details[row].Start)
		if s.Receipt != nil {
			w.details[row].Receipt, w.details[row].HasReceipt = *s.Receipt, true
		}
	}
	w.close(now)
	return w.outcomes[row], nil
}

// judge has the rules of what counts; the package comment has them in words.
func (w *work) judge(i int, s Sighting, now time.Time) evidence.Outcome {
	row := w.rows[i]
	void := func(r evidence.Reason) evidence.Outcome {
		return evidence.Outcome{Verdict: evidence.Void, Reason: r}
	}
	verdict := s.Verdict
	if (verdict == evidence.Pass || verdict > evidence.Broken) && !w.receiptFits(i, s.Receipt) {
		verdict = evidence.Broken // what cannot be shown is not claimed
	}
	timed := row.Kind == evidence.Latency || row.Kind == evidence.Throughput || row.Kind == evidence.Mobility
	switch {
	case w.trouble[i] == evidence.Clock:
		return void(evidence.Clock)
	case now.After(w.cut()):
		return void(evidence.Boundary)
	case s.Reason == evidence.NoReason && verdict > evidence.Void && w.trouble[i] == evidence.OwnMove && (verdict != evidence.Pass || timed):
		return void(evidence.OwnMove)
	}
	s.Verdict = verdict
	return s.Outcome(row, w.Roster.Rules().Epoch)
}

// Outcome returns what is reported of a visit during which nothing happened to the
// inspector itself; epoch is an epoch's length in ms.
func (s Sighting) Outcome(row evidence.Row, epoch uint32) evidence.Outcome {
	void := func(r evidence.Reason) evidence.Outcome {
		return evidence.Outcome{Verdict: evidence.Void, Reason: r}
	}
	verdict := s.Verdict
	switch {
	case s.Reason != evidence.NoReason:
		return void(s.Reason)
	case verdict <= evidence.Void:
		return void(evidence.Internal)
	case verdict.Failed() && (s.Control != Worked || s.ControlAt.Sub(s.End) > controlDelay):
		return void(evidence.Uplink)
	}
	o := evidence.Outcome{Verdict: verdict}
	if verdict != evidence.Absent {
		o.KiB = uint16(clamp((s.Bytes+1023)/1024, 0, 1<<16-1))
		o.Latency = uint32(clamp(s.Latency.Microseconds(), 1, 60_000_000))
	}
	if verdict == evidence.Pass && row.Kind == evidence.Throughput {
		o.Rate = uint32(clamp(s.Rate/1024, 1, 1<<27))
	}
	if verdict != evidence.Absent && row.Kind == evidence.Mobility {
		o.Gap = uint32(clamp(s.Gap.Milliseconds(), 0, int64(epoch)))
	}
	if o.Check(row, epoch) != nil {
		return void(evidence.Internal)
	}
	return o
}

// receiptFits reports whether the receipt is the provider's, over this row's nonce and
// over what a burst transferred: what evidence.Detail.Check will ask for.
func (w *work) receiptFits(i int, r *voucher.Receipt) bool {
	row := w.rows[i]
	p := w.Roster.At(int(row.Provider))
	if r != nil && row.Kind == evidence.Throughput && r.Sent+r.Received < uint64(row.Size) {
		return false
	}
	return r != nil && r.Node == p.Node && r.Service == p.Service &&
		r.Nonce == evidence.NonceOf(w.output, i, w.details[i].Key) && r.Verify(w.Network)
}

// Ready returns what is to be posted now, and again until Posted says it was.
func (c *Core) Ready(now time.Time) []Message {
	var messages []Message
	for _, w := range c.works {
		switch {
		case w.stage == closed:
			reveal := c.reveal(w)
			messages = append(messages, Commitment{w.Frame.Epoch, evidence.CommitOf(w.Network, c.keys.Account, &reveal)})
		case w.stage == committed && !now.Before(w.deadline()):
			messages = append(messages, Publication{c.reveal(w)})
		}
	}
	return messages
}

func (c *Core) reveal(w *work) evidence.Reveal {
	return evidence.Reveal{
		Epoch: w.Frame.Epoch, Proof: w.proof, Salt: c.salt(w),
		Root: evidence.MerkleRoot(evidence.Leaves(w.details)), Outcomes: slices.Clone(w.outcomes),
	}
}

// Posted says that the ledger has a message.
func (c *Core) Posted(m Message) {
	w := c.find(m.epoch())
	if w == nil {
		return
	}
	switch m.(type) {
	case Commitment:
		if w.stage == closed {
			w.stage = committed
		}
	case Publication:
		if w.stage == committed {
			w.stage = revealed
		}
	}
}

// Answer returns the answer to a challenge of this inspector's report. A report is
// not answered for before it is revealed.
func (c *Core) Answer(ch evidence.Challenge) (evidence.Answer, error) {
	w := c.find(ch.Epoch)
	if w == nil || ch.Inspector != c.keys.Account || int(ch.Row) >= len(w.rows) || w.stage != revealed {
		return evidence.Answer{}, fmt.Errorf("row %d of epoch %d: %w", ch.Row, ch.Epoch, ErrUnknown)
	}
	return evidence.AnswerTo(ch.Epoch, c.keys.Account, w.details, int(ch.Row)), nil
}

// Next returns when to call Tick or Ready next, at the latest.
func (c *Core) Next(now time.Time) time.Time {
	next := now.Add(time.Minute)
	for _, w := range c.works {
		times := []time.Time{w.ends(), w.cut(), w.deadline(), w.revealUntil()}
		if w.stage == inspecting {
			for i, start := range w.starts {
				if w.progress[i] == waiting {
					times = append(times, start)
				}
			}
		}
		for _, t := range times {
			if t.After(now) && t.Before(next) {
				next = t
			}
		}
	}
	return next
}

func (c *Core) find(epoch uint64) *work {
	i, found := slices.BinarySearchFunc(c.works, epoch, func(w *work, n uint64) int { return cmp.Compare(w.Frame.Epoch, n) })
	if !found {
		return nil
	}
	return c.works[i]
}

func ms(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

func clamp(v, low, high int64) int64 { return min(max(v, low), high) }
