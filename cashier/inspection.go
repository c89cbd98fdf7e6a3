package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// Inspection is on while Parameters.InspectorStake is not 0 and somebody was admitted or
// listed. What it is, and the arithmetic of it, is in package evidence; here is who may
// say what when, and what becomes of the money.
//
//	 c            c+1                c+2               c+3 = E             E+1
//	─┬────────────┬──────────────────┬─────────────────┬───────────────────┬──────
//	 │ admitted,  │ roster of E is   │ seed of E is    │ commits, until    │ reveals, then
//	 │ listed     │ frozen; the      │ made, plans can │ the grace passed  │ challenges; at
//	 │            │ authority posts  │ be made         │                   │ its end judged
//
// Epochs are counted from the time inspection begins. The first block behind the end of
// an epoch closes it: it makes the seed of the epoch after the next, freezes the roster
// of the one behind that, judges the epoch whose reports were just revealed, and pays
// for the one whose challenges have all ended. Work that is too much for one block is
// spread over the next ones.
//
// An epoch whose seed no authority posted for has no plans: it could be foreseen. Where
// nobody at all committed or revealed, or the ledger halted, nobody is blamed for what
// is missing; and of a provider nothing counts but what was seen.

// InspectionAccount is the account that holds what inspectors are paid from.
func InspectionAccount(network identity.NetworkID) identity.AccountID {
	return specialAccount("inspection", network)
}

const (
	inspectionPrefix = 'f'
	inspectorPrefix  = 'w'
	reportPrefix     = 'j'
	listingPrefix    = 'l'
	rosterPrefix     = 'r'

	// inspectionSteps bounds what one block judges, in rows read.
	inspectionSteps = 40_000
	// longestCatchUp is how many epochs are closed one by one after a halt. After a
	// longer one inspection begins anew.
	longestCatchUp = 8
	// challengeEpochs is within how many epochs after its reveal a row is challenged,
	// and within how many it is answered.
	challengeEpochs = 2
	// keptEpochs is how many epochs after its own the reports of one are kept.
	keptEpochs = 1 + 2*challengeEpochs
	// dissentEvery is every how many epochs an operator's view of a provider is compared
	// with all others'.
	dissentEvery = 16
)

// inspectionRow is what the ledger keeps of inspection as a whole.
type inspectionRow struct {
	// Epoch is the running one, which began at Start and is Length seconds long.
	Epoch  uint64 `cbor:"1,keyasint"`
	Start  int64  `cbor:"2,keyasint"`
	Length int64  `cbor:"3,keyasint"`
	// Inspectors and Providers are how many have a slot.
	Inspectors uint32 `cbor:"4,keyasint,omitzero"`
	Providers  uint32 `cbor:"5,keyasint,omitzero"`
	// Authority posts for seeds, in every epoch after Since.
	Authority identity.AccountID `cbor:"6,keyasint,omitzero"`
	Key       evidence.VRFKey    `cbor:"7,keyasint,omitzero"`
	Since     uint64             `cbor:"8,keyasint,omitzero"`
	// Judging is the epoch being judged, 0 if none, and Next the next provider of its
	// roster.
	Judging uint64 `cbor:"9,keyasint,omitzero"`
	Next    uint32 `cbor:"10,keyasint,omitzero"`
	// Pool is what the inspection account has.
	Pool voucher.Amount `cbor:"11,keyasint,omitzero"`
}

// frameRow is what the ledger keeps of an epoch.
type frameRow struct {
	Seed evidence.Seed `cbor:"1,keyasint,omitzero"`
	// Posted is the authority's output for the seed, nil if it posted none.
	Posted []byte `cbor:"2,keyasint,omitempty"`
	// Parameters are those the roster was frozen under. Inspectors and Providers count
	// the roster; both are 0 where there is none.
	Parameters Parameters `cbor:"3,keyasint,omitzero"`
	Inspectors uint32     `cbor:"4,keyasint,omitzero"`
	Providers  uint32     `cbor:"5,keyasint,omitzero"`
	// Began is when the epoch began, 0 before.
	Began int64 `cbor:"6,keyasint,omitzero"`
	// Halted says that the ledger stood still while reports were due.
	Halted  bool   `cbor:"7,keyasint,omitzero"`
	Commits uint32 `cbor:"8,keyasint,omitzero"`
	Reveals uint32 `cbor:"9,keyasint,omitzero"`
}

// planned reports whether there are plans of the epoch.
func (f *frameRow) planned() bool { return f.Inspectors > 0 && f.Providers > 0 && f.Posted != nil }

func (f *frameRow) rules() evidence.Rules { return f.Parameters.inspection() }

var inspectionKey = []byte{inspectionPrefix}

func frameKey(epoch uint64) []byte { return appendUint64([]byte{inspectionPrefix}, epoch) }

// readInspection reads the row of inspection as a whole.
func readInspection(s State) (row inspectionRow, ok bool, err error) {
	ok, err = read(s, inspectionKey, &row)
	return row, ok, err
}

// beginInspection loads what is kept of inspection, and does what is due.
func (x *execution) beginInspection(halted bool) {
	if !load(x, inspectionKey, &x.inspection) {
		return
	}
	x.inspecting, x.written.inspection = true, x.inspection
	x.assertHolds(InspectionAccount(x.network), x.inspection.Pool, "what inspectors are paid from")
	s := &x.inspection
	if halted {
		for e := s.Epoch - min(s.Epoch, 1); e <= s.Epoch; e++ {
			x.halt(e)
		}
	}
	for budget := inspectionSteps; budget > 0 && x.err == nil; {
		switch {
		case s.Judging != 0:
			budget -= x.judge(budget)
		case x.time >= s.Start+s.Length:
			budget -= x.closeEpoch(halted)
		default:
			return
		}
		x.expired++
	}
}

// halt notes of an epoch that the ledger stood still in it.
func (x *execution) halt(epoch uint64) {
	var f frameRow
	if load(x, frameKey(epoch), &f) && !f.Halted {
		f.Halted = true
		x.write(frameKey(epoch), f)
	}
}

// finishInspection writes the row.
func (x *execution) finishInspection() {
	if x.inspecting && x.inspection != x.written.inspection {
		x.write(inspectionKey, x.inspection)
	}
}

// startInspection begins to count epochs, unless that began before.
func (x *execution) startInspection() *Rejection {
	switch {
	case x.parameters.InspectorStake == 0:
		return &Rejection{Code: InspectionOff}
	case x.inspecting:
		return nil
	}
	length := x.parameters.epochSeconds()
	x.inspecting = true
	x.inspection = inspectionRow{Epoch: uint64(x.time / length), Start: x.time / length * length, Length: length}
	x.begun(evidence.Seed{})
	return nil
}

// begun makes the frames of an epoch that begins without a past.
func (x *execution) begun(previous evidence.Seed) {
	s := &x.inspection
	for e := s.Epoch; e <= s.Epoch+1 && x.err == nil; e++ {
		f := frameRow{Seed: x.nextSeed(e, previous, nil)}
		if e == s.Epoch {
			f.Began = s.Start
		}
		x.write(frameKey(e), f)
		previous = f.Seed
	}
}

func (x *execution) nextSeed(epoch uint64, previous evidence.Seed, posted []byte) evidence.Seed {
	var posts []evidence.SeedPost
	if posted != nil {
		posts = []evidence.SeedPost{{Authority: x.inspection.Authority, Output: evidence.VRFOutput(posted)}}
	}
	seed, err := evidence.NextSeed(x.network, epoch, previous, posts)
	x.fail(err)
	return seed
}

// closeEpoch closes the running epoch and begins the next one. It returns how many rows
// that took, about.
func (x *execution) closeEpoch(halted bool) int {
	s := &x.inspection
	closing := s.Epoch
	if behind := uint64((x.time - s.Start) / s.Length); behind > longestCatchUp {
		return x.beginAnew(behind)
	}
	var before, at frameRow
	load(x, frameKey(closing+1), &before)
	load(x, frameKey(closing+2), &at)
	at.Seed = x.nextSeed(closing+2, before.Seed, at.Posted)
	x.write(frameKey(closing+2), at)
	steps := x.freeze(closing + evidence.RosterLead)
	if closing >= 1 {
		s.Judging, s.Next = closing-1, 0
	}
	if closing > keptEpochs {
		steps += x.endEpoch(closing-keptEpochs, closing)
	}
	steps += x.dismiss(closing)
	before = frameRow{}
	load(x, frameKey(closing+1), &before)
	s.Epoch, s.Start = closing+1, s.Start+s.Length
	s.Length = x.parameters.epochSeconds()
	if before.Providers > 0 { // plans are made for the length it was frozen with
		s.Length = before.Parameters.epochSeconds()
	}
	before.Began, before.Halted = s.Start, before.Halted || halted
	x.write(frameKey(s.Epoch), before)
	return steps + 8
}

// beginAnew begins with an epoch long after the last one: what was planned between is
// forgotten, and who reported before is paid.
func (x *execution) beginAnew(behind uint64) int {
	s := &x.inspection
	steps := 0
	var last frameRow
	load(x, frameKey(s.Epoch+1), &last)
	for e := s.Epoch - min(s.Epoch, keptEpochs); e < s.Epoch+evidence.RosterLead; e++ {
		steps += x.endEpoch(e, s.Epoch)
	}
	s.Epoch, s.Start = s.Epoch+behind, s.Start+int64(behind)*s.Length
	s.Length = x.parameters.epochSeconds()
	x.begun(last.Seed)
	return steps + x.dismiss(s.Epoch)
}

// rosterChunk is how many providers of a frozen roster are in one row.
const rosterChunk = 256

func rosterKey(epoch uint64, chunk uint32) []byte {
	return binary.BigEndian.AppendUint32(appendUint64([]byte{rosterPrefix, 'e'}, epoch), chunk)
}

// freeze fixes who inspects and who is inspected in an epoch.
func (x *execution) freeze(epoch uint64) int {
	s := &x.inspection
	f := frameRow{Parameters: x.parameters}
	for slot := range s.Inspectors {
		if row, ok := x.inspectorAt(slot); ok && row.covers(epoch) && x.bonded(row.account) {
			f.Inspectors++
		}
	}
	if f.Inspectors == 0 || x.parameters.InspectorStake == 0 {
		return int(s.Inspectors)
	}
	providers := make([]evidence.Provider, 0, s.Providers)
	for slot := range s.Providers {
		p, _, ok := x.providerAt(slot)
		if !ok {
			return 0
		}
		p.Revenue = x.revenue(p.Service, p.Node)
		providers = append(providers, p)
	}
	sortProviders(providers)
	f.Providers = uint32(len(providers))
	for at := 0; at < len(providers); at += rosterChunk {
		chunk := providers[at:min(at+rosterChunk, len(providers))]
		b := make([]byte, 0, len(chunk)*evidence.ProviderSize)
		for _, p := range chunk {
			b = p.Append(b)
		}
		x.state.set(rosterKey(epoch, uint32(at/rosterChunk)), b)
	}
	if f.Providers > 0 {
		x.write(frameKey(epoch), f)
	}
	return int(s.Inspectors + 3*s.Providers)
}

// readRoster reads a frozen roster.
func readRoster(s State, epoch uint64, f *frameRow) (*evidence.Roster, error) {
	providers := make([]evidence.Provider, 0, f.Providers)
	for chunk := uint32(0); chunk*rosterChunk < f.Providers; chunk++ {
		b, err := s.Get(rosterKey(epoch, chunk))
		if err != nil {
			return nil, err
		}
		for ; len(b) >= evidence.ProviderSize; b = b[evidence.ProviderSize:] {
			p, err := evidence.ParseProvider(b[:evidence.ProviderSize])
			if err != nil {
				return nil, fmt.Errorf("%w: roster of epoch %d: %w", ErrCorrupt, epoch, err)
			}
			providers = append(providers, p)
		}
	}
	if len(providers) != int(f.Providers) {
		return nil, fmt.Errorf("%w: %d providers on the roster of epoch %d, and %d counted", ErrCorrupt, len(providers), epoch, f.Providers)
	}
	r, err := evidence.NewRoster(f.rules(), int(f.Inspectors), providers)
	if err != nil {
		return nil, fmt.Errorf("%w: roster of epoch %d: %w", ErrCorrupt, epoch, err)
	}
	return r, nil
}

// frame returns what reports of a planned epoch are verified against. It is made once
// in a block.
func (x *execution) frame(epoch uint64, f *frameRow) *evidence.Frame {
	if e := x.frames[epoch]; e != nil {
		return e
	}
	if x.err != nil {
		return nil
	}
	roster, err := readRoster(x.state, epoch, f)
	if err != nil {
		x.fail(err)
		return nil
	}
	e := &evidence.Frame{Network: x.network, Epoch: epoch, Seed: f.Seed, Roster: roster}
	if x.frames == nil {
		x.frames = map[uint64]*evidence.Frame{}
	}
	x.frames[epoch] = e
	return e
}

// inspection returns the rules of proof of service that the parameters make.
func (p Parameters) inspection() evidence.Rules {
	return evidence.Rules{
		Epoch: uint32(p.epochSeconds() * 1000), Window: p.ProbeWindow, Grace: p.ReportGrace, Rows: uint16(p.PlanRows),
		Checks: uint16(p.PlanChecks), Floor: p.PlanFloor, ProbeBytes: p.ProbeBytes,
		Fixed:  evidence.Table{Fail: uint16(p.FixedFail), Alarm: uint16(p.FixedAlarm)},
		Mobile: evidence.Table{Fail: uint16(p.MobileFail), Alarm: uint16(p.MobileAlarm)},
		Clear:  uint8(p.ClearChecks), Eligible: uint16(p.EligibleEpochs), Operators: uint8(p.AlarmOperators),
		Rate: p.ExpectedRate, Cap: p.OperatorCap, Suspension: p.LongestSuspension, Reset: p.SuspensionReset,
		ProbationChecks: p.ProbationChecks, ProbationEpochs: p.ProbationEpochs, Keep: challengeEpochs,
		RowPay: uint64(p.RowPay),
	}.WithDefaults()
}

// The bounds of the parameters of inspection.
const (
	defaultInspectors = 1024
	maxInspectors     = 4096
	defaultProviders  = 10_000
	maxProviders      = 100_000
	defaultDrawn      = 20_000
	defaultPunishment = 144
)

func (p Parameters) maxInspectors() uint32 { return otherwise(p.MaxInspectors, defaultInspectors) }
func (p Parameters) maxProviders() uint32  { return otherwise(p.MaxProviders, defaultProviders) }
func (p Parameters) drawnShare() uint32    { return otherwise(p.DrawnShare, defaultDrawn) }
func (p Parameters) punishment() uint64 {
	return uint64(otherwise(p.PunishmentEpochs, defaultPunishment))
}

func otherwise(v, standard uint32) uint32 {
	if v == 0 {
		return standard
	}
	return v
}

// validateInspection reports what is wrong with the rules of inspection.
func (p Parameters) validateInspection() error {
	var errs []error
	atMost := func(name string, v, most uint32) {
		if v > most {
			errs = append(errs, fmt.Errorf("cashier: %s %d, want at most %d", name, v, most))
		}
	}
	atMost("InspectionFee", p.InspectionFee, million/2)
	atMost("MaxInspectors", p.MaxInspectors, maxInspectors)
	atMost("MaxProviders", p.MaxProviders, maxProviders)
	atMost("DrawnShare", p.DrawnShare, million)
	atMost("PunishmentEpochs", p.PunishmentEpochs, 1<<20)
	// What is narrower in package evidence must not be cut off.
	atMost("PlanRows", p.PlanRows, evidence.MaxRows)
	atMost("PlanChecks", p.PlanChecks, 1<<16-1)
	atMost("FixedFail", p.FixedFail, 10_000)
	atMost("FixedAlarm", p.FixedAlarm, 10_000)
	atMost("MobileFail", p.MobileFail, 10_000)
	atMost("MobileAlarm", p.MobileAlarm, 10_000)
	atMost("ClearChecks", p.ClearChecks, 1<<8-1)
	atMost("EligibleEpochs", p.EligibleEpochs, 1<<16-1)
	atMost("AlarmOperators", p.AlarmOperators, 1<<8-1)
	if len(errs) == 0 {
		errs = append(errs, p.inspection().Validate())
	}
	return errors.Join(errs...)
}
