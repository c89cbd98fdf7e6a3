package cashier

import (
	"context"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// Limits of what is told of inspection at once: an answer must fit an envelope.
const (
	maxScoresPage  = 100
	maxReportsPage = 40 << 10 // bytes, but at least one report
	maxRosterPage  = 2        // chunks
)

// Inspection is how inspection as a whole stands, as signed by the ledger's authority.
type Inspection struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	// Epoch is the running one, which began at Began, in Unix seconds, and lasts Length
	// of them. All are 0 while nobody was admitted or listed.
	Epoch  uint64 `cbor:"2,keyasint,omitzero"`
	Began  int64  `cbor:"3,keyasint,omitzero"`
	Length int64  `cbor:"4,keyasint,omitzero"`
	// Inspectors and Providers are how many there are, those on their way included.
	Inspectors uint32 `cbor:"5,keyasint,omitzero"`
	Providers  uint32 `cbor:"6,keyasint,omitzero"`
	// Authority posts for seeds under Key.
	Authority identity.AccountID `cbor:"7,keyasint,omitzero"`
	Key       evidence.VRFKey    `cbor:"8,keyasint,omitzero"`
	// Pool is what there is to pay inspectors from.
	Pool       voucher.Amount `cbor:"9,keyasint,omitzero"`
	Parameters Parameters     `cbor:"10,keyasint"`
	Height     uint64         `cbor:"11,keyasint"`
	Time       int64          `cbor:"12,keyasint"`
}

// Rules returns the rules of proof of service that the parameters make. Those of a planned
// epoch are in its frame.
func (i Inspection) Rules() evidence.Rules { return i.Parameters.inspection() }

// InspectionEpoch is what is known of one epoch.
type InspectionEpoch struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Epoch   uint64             `cbor:"2,keyasint"`
	Seed    evidence.Seed      `cbor:"3,keyasint,omitzero"`
	// Posted is the authority's output for the seed; without it there are no plans.
	Posted []byte `cbor:"4,keyasint,omitempty"`
	// Parameters, Inspectors and Providers are as the roster was frozen; there is none
	// yet, or there are no inspectors, while both counts are 0.
	Parameters Parameters `cbor:"5,keyasint,omitzero"`
	Inspectors uint32     `cbor:"6,keyasint,omitzero"`
	Count      uint32     `cbor:"7,keyasint,omitzero"`
	// Began is when it began, in Unix seconds, 0 before it did.
	Began int64 `cbor:"8,keyasint,omitzero"`
	// Halted says that the ledger stood still while reports on it were due.
	Halted  bool   `cbor:"9,keyasint,omitzero"`
	Commits uint32 `cbor:"10,keyasint,omitzero"`
	Reveals uint32 `cbor:"11,keyasint,omitzero"`
	Height  uint64 `cbor:"12,keyasint"`
	Time    int64  `cbor:"13,keyasint"`
	// Providers is the roster, in ascending order.
	Providers []evidence.Provider `cbor:"-"`

	// Page is part of Providers, as it travels.
	Page []byte `cbor:"14,keyasint,omitempty"`
}

// Planned reports whether inspectors have plans in the epoch.
func (e *InspectionEpoch) Planned() bool { return e.Inspectors > 0 && e.Count > 0 && e.Posted != nil }

// Frame returns what plans are made of, and reports verified against.
func (e *InspectionEpoch) Frame() (evidence.Frame, error) {
	if !e.Planned() {
		return evidence.Frame{}, reject(NoPlan, "epoch %d", e.Epoch)
	}
	roster, err := evidence.NewRoster(e.Parameters.inspection(), int(e.Inspectors), e.Providers)
	return evidence.Frame{Network: e.Network, Epoch: e.Epoch, Seed: e.Seed, Roster: roster}, err
}

// takePage reads the providers of a page.
func (e *InspectionEpoch) takePage() error {
	b := e.Page
	for ; len(b) >= evidence.ProviderSize; b = b[evidence.ProviderSize:] {
		p, err := evidence.ParseProvider(b[:evidence.ProviderSize])
		if err != nil {
			return err
		}
		e.Providers = append(e.Providers, p)
	}
	if e.Page = nil; len(b) > 0 {
		return errors.New("half a provider")
	}
	return nil
}

// InspectorState is an inspector.
type InspectorState struct {
	Network   identity.NetworkID `cbor:"1,keyasint"`
	Account   identity.AccountID `cbor:"2,keyasint"`
	Admission []byte             `cbor:"3,keyasint"`
	// From is the first epoch on whose roster it is, To the first on whose it is no
	// more, 0 if there is none.
	From uint64 `cbor:"4,keyasint"`
	To   uint64 `cbor:"5,keyasint,omitzero"`
	// Conduct is the encoding of an evidence.Conduct.
	Conduct []byte         `cbor:"6,keyasint"`
	Staked  voucher.Amount `cbor:"7,keyasint,omitzero"`
	Height  uint64         `cbor:"8,keyasint"`
	Time    int64          `cbor:"9,keyasint"`
}

// Open returns what was said of it when it was admitted, and its conduct.
func (i *InspectorState) Open() (evidence.Admission, evidence.Conduct, error) {
	a, err := evidence.ParseAdmission(i.Admission)
	c, bad := evidence.ParseConduct(i.Conduct)
	return a, c, errors.Join(err, bad)
}

// ProviderScore is how a provider of a service stands.
type ProviderScore struct {
	Provider evidence.Provider
	Account  identity.AccountID
	// Listed says that it is inspected still.
	Listed   bool
	Standing evidence.Standing
	// Suspended and Probation are of the running epoch.
	Suspended, Probation bool
}

// scoreRow is a ProviderScore as it travels.
type scoreRow struct {
	Node identity.NodeID `cbor:"1,keyasint"`
	Row  listingRow      `cbor:"2,keyasint"`
}

func (s *scoreRow) score(rules *evidence.Rules, epoch uint64) (ProviderScore, error) {
	p, standing, err := s.Row.open()
	if err == nil && p.Node != s.Node {
		err = fmt.Errorf("%w: a score of another node", ErrCorrupt)
	}
	return ProviderScore{p, s.Row.Account, s.Row.Listed, standing, standing.Suspended(epoch), standing.Probation(rules, epoch)}, err
}

// EpochReport is a report as it was shown.
type EpochReport struct {
	// Number is its place among those of its epoch, from 1 on: the order in which they
	// were judged.
	Number    uint32             `cbor:"1,keyasint"`
	Inspector identity.AccountID `cbor:"2,keyasint"`
	Admission []byte             `cbor:"3,keyasint"`
	Commit    evidence.Commit    `cbor:"4,keyasint"`
	// Reveal is the encoding of an evidence.Reveal.
	Reveal []byte `cbor:"5,keyasint"`
	// Challenges are the rows to be shown.
	Challenges []ReportChallenge `cbor:"6,keyasint,omitempty"`
}

// Open verifies the report against its epoch.
func (r *EpochReport) Open(frame *evidence.Frame) (evidence.Admission, *evidence.Report, error) {
	a, err := evidence.ParseAdmission(r.Admission)
	if err != nil {
		return a, nil, err
	}
	reveal, err := evidence.ParseReveal(r.Reveal)
	if err != nil {
		return a, nil, err
	}
	report, err := frame.Verify(r.Inspector, a.Key, r.Commit, &reveal)
	return a, report, err
}

// ReportChallenge is a row of a report that is to be shown until the end of an epoch.
type ReportChallenge struct {
	Row   uint16 `cbor:"1,keyasint"`
	Until uint64 `cbor:"2,keyasint"`
	Shown bool   `cbor:"3,keyasint,omitzero"`
	// By is who asked, zero for a row that was drawn.
	By identity.AccountID `cbor:"4,keyasint,omitzero"`
}

// The pages of scores and reports, as the authority signs them.
type scoresReply struct {
	Network    identity.NetworkID `cbor:"1,keyasint"`
	Service    identity.ServiceID `cbor:"2,keyasint"`
	Epoch      uint64             `cbor:"3,keyasint"`
	Parameters Parameters         `cbor:"4,keyasint"`
	Scores     []scoreRow         `cbor:"5,keyasint"`
	Height     uint64             `cbor:"6,keyasint"`
	Time       int64              `cbor:"7,keyasint"`
}

type reportsReply struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Epoch   uint64             `cbor:"2,keyasint"`
	Of      uint32             `cbor:"3,keyasint"`
	Reports []EpochReport      `cbor:"4,keyasint"`
	Height  uint64             `cbor:"5,keyasint"`
	Time    int64              `cbor:"6,keyasint"`
}

// Inspection says how inspection stands.
func (l *Ledger) Inspection(context.Context) (out Inspection, err error) {
	err = l.snapshot(func(s rows, h head) error {
		row, _, err := readInspection(s)
		if err != nil {
			return err
		}
		out = Inspection{
			Network: h.Network, Epoch: row.Epoch, Began: row.Start, Length: row.Length, Inspectors: row.Inspectors,
			Providers: row.Providers, Authority: row.Authority, Key: row.Key, Pool: row.Pool, Height: h.Height, Time: l.now().Unix(),
		}
		_, err = read(s, parametersKey, &out.Parameters)
		return err
	})
	return out, err
}

// InspectionEpoch says what is known of an epoch: the next one, the running one, or one
// whose reports may still be asked about. Any other is ErrNoPlan.
func (l *Ledger) InspectionEpoch(ctx context.Context, epoch uint64) (InspectionEpoch, error) {
	return wholeEpoch(func(chunk uint32) (InspectionEpoch, error) { return l.epochPage(ctx, epoch, chunk) })
}

// epochPage returns an epoch with some of its providers, from a chunk on.
func (l *Ledger) epochPage(_ context.Context, epoch uint64, chunk uint32) (out InspectionEpoch, err error) {
	err = l.snapshot(func(s rows, h head) error {
		var f frameRow
		if ok, err := read(s, frameKey(epoch), &f); err != nil || !ok {
			return errors.Join(err, reject(NoPlan, "epoch %d", epoch).orNil())
		}
		out = InspectionEpoch{
			Network: h.Network, Epoch: epoch, Seed: f.Seed, Posted: f.Posted, Parameters: f.Parameters, Inspectors: f.Inspectors,
			Count: f.Providers, Began: f.Began, Halted: f.Halted, Commits: f.Commits, Reveals: f.Reveals, Height: h.Height, Time: l.now().Unix(),
		}
		for range maxRosterPage {
			b, err := s.Get(rosterKey(epoch, chunk))
			if err != nil {
				return err
			}
			out.Page = append(out.Page, b...)
			chunk++
		}
		return nil
	})
	return out, err
}

// wholeEpoch puts the pages of an epoch together.
func wholeEpoch(page func(chunk uint32) (InspectionEpoch, error)) (out InspectionEpoch, err error) {
	for chunk := uint32(0); chunk == 0 || len(out.Providers) < int(out.Count); chunk += maxRosterPage {
		e, err := page(chunk)
		if err != nil {
			return out, err
		}
		had := out.Providers
		out, out.Providers = e, had
		if err := out.takePage(); err != nil {
			return out, fmt.Errorf("%w: epoch %d: %w", ErrAnswer, e.Epoch, err)
		}
		if len(out.Providers) > int(out.Count) || len(out.Providers) == len(had) && len(had) < int(out.Count) {
			return out, fmt.Errorf("%w: epoch %d: %d of %d providers", ErrAnswer, e.Epoch, len(out.Providers), out.Count)
		}
	}
	return out, nil
}

// Inspector says how an inspector stands. An account that is none is ErrNotInspector.
func (l *Ledger) Inspector(_ context.Context, account identity.AccountID) (out InspectorState, err error) {
	err = l.snapshot(func(s rows, h head) error {
		var row inspectorRow
		if ok, err := read(s, inspectorKey(account), &row); err != nil || !ok {
			return errors.Join(err, (&Rejection{Code: NotInspector, Account: account}).orNil())
		}
		staked, _, err := readStake(s, account)
		out = InspectorState{
			Network: h.Network, Account: account, Admission: row.Admission, From: row.From, To: row.To, Conduct: row.Conduct,
			Staked: staked, Height: h.Height, Time: l.now().Unix(),
		}
		return err
	})
	return out, err
}

// Scores says how every provider of a service stands, in ascending order of nodes.
func (l *Ledger) Scores(ctx context.Context, service identity.ServiceID) ([]ProviderScore, error) {
	return allScores(func(after identity.NodeID) (scoresReply, error) { return l.scoresPage(ctx, service, after) })
}

func (l *Ledger) scoresPage(_ context.Context, service identity.ServiceID, after identity.NodeID) (scoresReply, error) {
	out := scoresReply{Network: l.cfg.Network, Service: service, Time: l.now().Unix()}
	prefix := listingKey(service, identity.NodeID{})[:1+identity.Size]
	var from []byte
	if !after.IsZero() {
		from = listingKey(service, after)
	}
	err := l.snapshot(func(s rows, h head) error {
		out.Height = h.Height
		row, _, err := readInspection(s)
		if err != nil {
			return err
		}
		out.Epoch = row.Epoch
		if _, err := read(s, parametersKey, &out.Parameters); err != nil {
			return err
		}
		var failure error
		err = s.scan(prefix, from, func(key, value []byte) bool {
			score := scoreRow{Node: identity.NodeID(key[len(prefix):])}
			if failure = identity.Unmarshal(value, &score.Row); failure != nil {
				failure = fmt.Errorf("%w: %s: %w", ErrCorrupt, rowName(key), failure)
				return false
			}
			out.Scores = append(out.Scores, score)
			return len(out.Scores) < maxScoresPage
		})
		return errors.Join(failure, err)
	})
	return out, err
}

// allScores puts pages together, of as many providers as a roster has at most.
func allScores(page func(after identity.NodeID) (scoresReply, error)) ([]ProviderScore, error) {
	var out []ProviderScore
	var after identity.NodeID
	for len(out) < maxProviders {
		reply, err := page(after)
		if err != nil {
			return nil, err
		}
		rules := reply.Parameters.inspection()
		for i := range reply.Scores {
			score, err := reply.Scores[i].score(&rules, reply.Epoch)
			if err != nil || score.Provider.Service != reply.Service || after.Compare(score.Provider.Node) >= 0 {
				return nil, fmt.Errorf("%w: scores out of order, or of something else: %w", ErrAnswer, err)
			}
			out, after = append(out, score), score.Provider.Node
		}
		if len(reply.Scores) < maxScoresPage {
			break
		}
	}
	return out, nil
}

// Reports returns the reports on an epoch that were shown and are not yet forgotten, in
// their order.
func (l *Ledger) Reports(ctx context.Context, epoch uint64) ([]EpochReport, error) {
	return allReports(func(after uint32) (reportsReply, error) { return l.reportsPage(ctx, epoch, after) })
}

func (l *Ledger) reportsPage(_ context.Context, epoch uint64, after uint32) (reportsReply, error) {
	out := reportsReply{Network: l.cfg.Network, Epoch: epoch, Time: l.now().Unix()}
	err := l.snapshot(func(s rows, h head) error {
		out.Height = h.Height
		var f frameRow
		if ok, err := read(s, frameKey(epoch), &f); err != nil || !ok {
			return errors.Join(err, reject(NoPlan, "epoch %d", epoch).orNil())
		}
		out.Of = f.Reveals
		for number, size := after+1, 0; number > after && number <= f.Reveals && size < maxReportsPage; number++ {
			r, err := readReport(s, epoch, number)
			if err != nil {
				return err
			}
			if size += len(r.Reveal); size > maxReportsPage && len(out.Reports) > 0 {
				break
			}
			out.Reports = append(out.Reports, r)
		}
		return nil
	})
	return out, err
}

// readReport reads one report, with who sent it.
func readReport(s rows, epoch uint64, number uint32) (EpochReport, error) {
	var row reportRow
	var inspector inspectorRow
	ok, err := read(s, reportKey(epoch, number), &row)
	if err == nil && ok {
		ok, err = read(s, inspectorKey(row.Inspector), &inspector)
	}
	if err != nil {
		return EpochReport{}, err
	}
	b, err := s.Get(reportCommitKey(epoch, row.Inspector))
	if err != nil || !ok || len(b) != 36 {
		return EpochReport{}, errors.Join(err, fmt.Errorf("%w: report %d of epoch %d", ErrCorrupt, number, epoch))
	}
	out := EpochReport{
		Number: number, Inspector: row.Inspector, Admission: inspector.Admission, Commit: evidence.Commit(b[:32]), Reveal: row.Reveal,
	}
	for _, c := range row.Challenges {
		out.Challenges = append(out.Challenges, ReportChallenge(c))
	}
	return out, nil
}

// allReports puts pages together.
func allReports(page func(after uint32) (reportsReply, error)) ([]EpochReport, error) {
	var out []EpochReport
	for {
		reply, err := page(uint32(len(out)))
		if err != nil {
			return nil, err
		}
		for _, r := range reply.Reports {
			if int(r.Number) != len(out)+1 || r.Number > maxInspectors {
				return nil, fmt.Errorf("%w: reports out of order", ErrAnswer)
			}
			out = append(out, r)
		}
		if len(reply.Reports) == 0 || len(out) >= int(reply.Of) {
			return out, nil
		}
	}
}
