package node

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/proofofservice"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

const (
	// inspectorKeyFile is the key of an inspector's plans. It is no other key of the
	// node's, and must be kept: without it the reports under way are lost.
	inspectorKeyFile = "inspector.key"
	// inspectMarker is there while this node is to inspect, also after a restart.
	inspectMarker = stateDir + "/inspect.run"
	// askedEpochs is how many epochs back the ledger may still want an answer.
	askedEpochs = 3
	// inspectRetry is when an inspector that could not be started is tried again.
	inspectRetry = 10 * time.Second
)

// inspectorKeys are what an inspector plans and signs with, made at first use.
func (n *Node) inspectorKeys() (proofofservice.Keys, error) {
	key, err := n.dir.readKey(inspectorKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = n.dir.makeKey(inspectorKeyFile)
	}
	if err != nil {
		return proofofservice.Keys{}, err
	}
	rows, err := hkdf.Key(sha256.New, key.Ed25519().Seed(), nil, "scn/inspector/rows/v1", 32)
	return proofofservice.Keys{Account: n.account, VRF: key, Rows: [32]byte(rows)}, err
}

// RegisterInspector makes this node's account an inspector on the ledger: it stakes an
// amount, if any, and is admitted under labels.
func (n *Node) RegisterInspector(ctx context.Context, id voucher.TransferID, stake voucher.Amount, operator, network evidence.Label) error {
	keys, err := n.inspectorKeys()
	if err != nil {
		return err
	}
	if stake > 0 {
		if _, err := n.wallet.Stake(ctx, id, stake); err != nil {
			return err
		}
	}
	_, err = n.wallet.AdmitInspector(ctx, evidence.VRFKeyOf(keys.VRF), operator, network)
	return err
}

// UnregisterInspector takes the account off the rosters to come, and stops inspecting.
// What it has planned and committed to is lost if it is stopped before it is revealed.
func (n *Node) UnregisterInspector(ctx context.Context) error {
	_, err := n.wallet.WithdrawInspector(ctx)
	return err
}

// EnlistProvider has a service of this node inspected, or not any more. The account is
// bound to both on the ledger first.
func (n *Node) EnlistProvider(ctx context.Context, nm name.Name, mobile bool, rate uint32, withdraw bool) error {
	s, err := n.servedAs(nm)
	if err != nil {
		return err
	}
	p := evidence.Provider{Service: s.ID, Node: n.ID(), Kinds: evidence.AllKinds, Rate: rate}
	if mobile {
		p.Class = evidence.Mobile
	}
	if withdraw {
		_, err = n.wallet.UnlistProvider(ctx, p)
		return err
	}
	if err := n.Bind(ctx, nm, false); err != nil {
		return err
	}
	_, err = n.wallet.ListProvider(ctx, p)
	return err
}

// SetInspecting has this node inspect for the ledger, or not any more, and so after
// every start.
func (n *Node) SetInspecting(on bool) error {
	var err error
	if on {
		err = n.dir.write(inspectMarker, nil, 0o600)
	} else if err = os.Remove(n.dir.join(inspectMarker)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	select {
	case n.inspection.wake <- struct{}{}:
	default:
	}
	return nil
}

// Inspecting reports whether this node is to inspect, and the inspector if it does.
func (n *Node) Inspecting() (wanted bool, running *proofofservice.Inspector) {
	_, err := os.Stat(n.dir.join(inspectMarker))
	n.inspection.mu.Lock()
	defer n.inspection.mu.Unlock()
	return err == nil, n.inspection.running
}

// inspectorMoved tells the inspector, if there is one, that this node moved.
func (n *Node) inspectorMoved() {
	i := n.inspection
	if i == nil {
		return
	}
	i.mu.Lock()
	running := i.running
	i.mu.Unlock()
	if running != nil {
		running.Moved()
	}
}

// runInspection inspects while it is wanted, until ctx ends.
func (n *Node) runInspection(ctx context.Context) error {
	i := n.inspection
	for {
		wait := time.Duration(0)
		if wanted, _ := n.Inspecting(); wanted {
			if err := i.inspect(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("not inspecting", "err", err, "again_in", inspectRetry)
				wait = inspectRetry
			}
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		if wanted, _ := n.Inspecting(); wanted && wait == 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-i.wake:
		case <-again:
		}
	}
}

// inspect runs an inspector until it is not wanted any more.
func (i *inspection) inspect(ctx context.Context) error {
	keys, err := i.n.inspectorKeys()
	if err != nil {
		return err
	}
	store, _, err := i.open()
	if err != nil {
		return err
	}
	cfg := i.n.cfg.Inspect.inspector()
	cfg.Clock, cfg.Logger = i.n.Now, i.n.log.With("layer", "proofofservice")
	inspector, err := proofofservice.New(keys, &inspectorLedger{n: i.n, keys: keys}, i.shopper, store, cfg)
	if err != nil {
		return err
	}
	if err := remember(store, inspector.Watch(), i.n.Now().Add(-watchMemory)); err != nil {
		return err
	}
	i.mu.Lock()
	i.running, i.watch = inspector, inspector.Watch()
	i.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-i.wake:
				if wanted, _ := i.n.Inspecting(); !wanted {
					cancel()
				}
			}
		}
	})
	err = inspector.Run(ctx)
	cancel()
	m := inspector.Metrics()
	i.mu.Lock()
	i.running, i.counted = nil, sum(i.counted, m)
	i.mu.Unlock()
	return err
}

func sum(a, b proofofservice.Metrics) proofofservice.Metrics {
	return proofofservice.Metrics{
		Visits: a.Visits + b.Visits, Passed: a.Passed + b.Passed, Failed: a.Failed + b.Failed, Void: a.Void + b.Void,
		Anomalies: a.Anomalies + b.Anomalies, Commits: a.Commits + b.Commits, Reveals: a.Reveals + b.Reveals,
		Answers: a.Answers + b.Answers, Errors: a.Errors + b.Errors,
	}
}

// inspectorLedger shows the ledger to an inspector. Its methods are called one at a
// time.
type inspectorLedger struct {
	n      *Node
	keys   proofofservice.Keys
	frames map[uint64]proofofservice.Epoch // planned epochs: they do not change
}

var _ proofofservice.Ledger = (*inspectorLedger)(nil)

// Epochs implements proofofservice.Ledger.
func (l *inspectorLedger) Epochs(ctx context.Context) ([]proofofservice.Epoch, error) {
	books, err := lateBooks{l.n}.books()
	if err != nil {
		return nil, err
	}
	now, err := books.Inspection(ctx)
	if err != nil {
		return nil, err
	}
	state, err := books.Inspector(ctx, l.n.account)
	if errors.Is(err, cashier.ErrNotInspector) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	admission, _, err := state.Open()
	if err != nil {
		return nil, err
	}
	if admission.Key != evidence.VRFKeyOf(l.keys.VRF) {
		return nil, fmt.Errorf("%w: the ledger knows this inspector by another key than %s", ErrRequest, inspectorKeyFile)
	}
	if l.frames == nil {
		l.frames = make(map[uint64]proofofservice.Epoch)
	}
	for epoch := range l.frames {
		if epoch+askedEpochs < now.Epoch {
			delete(l.frames, epoch)
		}
	}
	var out []proofofservice.Epoch
	for epoch := now.Epoch - min(now.Epoch, askedEpochs); epoch <= now.Epoch+1; epoch++ {
		if epoch < state.From || state.To != 0 && epoch >= state.To {
			continue
		}
		e, ok := l.frames[epoch]
		if !ok {
			if e, ok, err = epochOf(ctx, books, epoch, now); err != nil {
				return nil, err
			}
		}
		if ok {
			if epoch <= now.Epoch {
				l.frames[epoch] = e // when the next one begins is not certain yet
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// epochOf returns what plans of an epoch are made of; false if there are none.
func epochOf(ctx context.Context, books ledgerAPI, epoch uint64, now cashier.Inspection) (e proofofservice.Epoch, ok bool, err error) {
	known, err := books.InspectionEpoch(ctx, epoch)
	if errors.Is(err, cashier.ErrNoPlan) || err == nil && !known.Planned() {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	if e.Frame, err = known.Frame(); err != nil {
		return e, false, err
	}
	began := known.Began
	if began == 0 {
		began = now.Began + now.Length
	}
	e.Began = time.Unix(began, 0)
	return e, true, nil
}

// Post implements proofofservice.Ledger.
func (l *inspectorLedger) Post(ctx context.Context, m proofofservice.Message) (err error) {
	switch m := m.(type) {
	case proofofservice.Commitment:
		_, err = l.n.wallet.CommitReport(ctx, m.Epoch, m.Commit)
	case proofofservice.Publication:
		_, err = l.n.wallet.RevealReport(ctx, &m.Reveal)
	default:
		err = fmt.Errorf("%w: a message of type %T", ErrRequest, m)
	}
	return err
}

// Challenges implements proofofservice.Ledger.
func (l *inspectorLedger) Challenges(ctx context.Context) (out []evidence.Challenge, err error) {
	books, err := lateBooks{l.n}.books()
	if err != nil {
		return nil, err
	}
	for epoch := range l.frames {
		reports, err := books.Reports(ctx, epoch)
		if errors.Is(err, cashier.ErrNoPlan) {
			continue
		}
		if err != nil {
			return out, err
		}
		for _, r := range reports {
			for _, c := range r.Challenges {
				if r.Inspector == l.n.account && !c.Shown {
					out = append(out, evidence.Challenge{Epoch: epoch, Inspector: r.Inspector, Row: c.Row})
				}
			}
		}
	}
	return out, nil
}

// Answer implements proofofservice.Ledger.
func (l *inspectorLedger) Answer(ctx context.Context, a evidence.Answer) error {
	_, err := l.n.wallet.AnswerChallenge(ctx, &a)
	return err
}

// InspectorStatus is how inspecting stands at this node.
type InspectorStatus struct {
	Ledger cashier.Inspection
	// Registered says that the ledger knows the account as one; State is what it knows.
	Registered bool
	State      cashier.InspectorState
	// Wanted and Running are of this daemon.
	Wanted, Running bool
	Metrics         proofofservice.Metrics
}

// InspectorStatus returns it.
func (n *Node) InspectorStatus(ctx context.Context) (s InspectorStatus, err error) {
	books, err := lateBooks{n}.books()
	if err != nil {
		return s, err
	}
	if s.Ledger, err = books.Inspection(ctx); err != nil {
		return s, err
	}
	s.State, err = books.Inspector(ctx, n.account)
	if s.Registered = err == nil; errors.Is(err, cashier.ErrNotInspector) {
		err = nil
	}
	wanted, running := n.Inspecting()
	s.Wanted, s.Running, s.Metrics = wanted, running != nil, n.InspectMetrics()
	return s, err
}

// PlannedVisit is a row of this node's plan.
type PlannedVisit struct {
	evidence.Row
	Provider evidence.Provider
	// From is when the window begins in which it is made.
	From time.Time
}

// Plan returns this node's plan of an epoch, which nobody else knows before it is
// revealed. Zero is the running epoch.
func (n *Node) Plan(ctx context.Context, epoch uint64) (uint64, []PlannedVisit, error) {
	books, err := lateBooks{n}.books()
	if err != nil {
		return epoch, nil, err
	}
	now, err := books.Inspection(ctx)
	if err != nil {
		return epoch, nil, err
	}
	if epoch == 0 {
		epoch = now.Epoch
	}
	state, err := books.Inspector(ctx, n.account)
	if err != nil {
		return epoch, nil, err
	}
	e, ok, err := epochOf(ctx, books, epoch, now)
	if err != nil || !ok || epoch < state.From || state.To != 0 && epoch >= state.To {
		return epoch, nil, errors.Join(err, fmt.Errorf("%w: no plan of epoch %d", ErrNotFound, epoch))
	}
	keys, err := n.inspectorKeys()
	if err != nil {
		return epoch, nil, err
	}
	_, _, rows := e.Plan(keys.VRF)
	out := make([]PlannedVisit, len(rows))
	for i, r := range rows {
		out[i] = PlannedVisit{r, e.Roster.At(int(r.Provider)), e.Began.Add(time.Duration(r.Start) * time.Millisecond)}
	}
	return epoch, out, nil
}

// ShownReport is a report on the ledger, verified here.
type ShownReport struct {
	cashier.EpochReport
	Admission evidence.Admission
	// Report is nil where Fault says what is wrong with it.
	Report *evidence.Report
	Fault  error
}

// Reports returns the reports of an epoch, each verified: its plan recomputed from the
// proof, its commitment, its values. Zero is the newest epoch whose reports were shown.
func (n *Node) Reports(ctx context.Context, epoch uint64) (uint64, *evidence.Roster, []ShownReport, error) {
	books, err := lateBooks{n}.books()
	if err != nil {
		return epoch, nil, nil, err
	}
	now, err := books.Inspection(ctx)
	if err != nil {
		return epoch, nil, nil, err
	}
	if epoch == 0 && now.Epoch > 2 {
		epoch = now.Epoch - 2
	}
	e, ok, err := epochOf(ctx, books, epoch, now)
	if err != nil || !ok {
		return epoch, nil, nil, errors.Join(err, fmt.Errorf("%w: no plans of epoch %d", ErrNotFound, epoch))
	}
	list, err := books.Reports(ctx, epoch)
	if err != nil {
		return epoch, nil, nil, err
	}
	out := make([]ShownReport, len(list))
	for i, r := range list {
		out[i].EpochReport = r
		out[i].Admission, out[i].Report, out[i].Fault = r.Open(&e.Frame)
	}
	return epoch, e.Roster, out, nil
}

// Scores returns how the providers of a service stand on the ledger.
func (n *Node) Scores(ctx context.Context, service identity.ServiceID) ([]cashier.ProviderScore, error) {
	books, err := lateBooks{n}.books()
	if err != nil {
		return nil, err
	}
	return books.Scores(ctx, service)
}
