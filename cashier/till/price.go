package till

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

const stateVersion = 1

// maxState bounds the file: far more than any node has services.
const maxState = 16 << 20

// changeMargin is how much later than the ledger's epoch demands a change is announced
// for: clocks differ, and blocks take their time.
const changeMargin = 5 * time.Second

// Errors of a Till.
var (
	// ErrState is returned for a file that is none of this package's, or a newer one.
	ErrState = errors.New("till: not a state file of this version")
	// ErrNoGrant is returned where a service's owner has not let this node ask money.
	ErrNoGrant = errors.New("till: the service's owner has not granted this node and account to ask money for it")
	// ErrFree is returned for a price of zero, or where there is no price to withdraw.
	ErrFree = errors.New("till: the service is free here")
)

// priceRow is one service on disk. Rules for adding a field: a new number, and a new
// stateVersion if an older program must not overlook it.
type priceRow struct {
	// Ask is in force, or was submitted for the first time if Known is false: then it
	// is not charged yet. Its Service is the row's key.
	Ask   voucher.Ask `cbor:"1,keyasint"`
	Known bool        `cbor:"2,keyasint,omitzero"`
	// Next is announced, or was submitted if NextKnown is false.
	Next      voucher.Ask `cbor:"3,keyasint,omitzero"`
	NextKnown bool        `cbor:"4,keyasint,omitzero"`
	Grant     []byte      `cbor:"5,keyasint"`
}

func (r *priceRow) price() (p Price) {
	if r.Known {
		p.Ask = r.Ask
	}
	if r.NextKnown {
		p.Next = r.Next
	}
	p.Grant, _ = voucher.ParseGrant(r.Grant) // decodeState has checked it
	return p
}

type stateFile struct {
	Version uint64             `cbor:"1,keyasint"`
	Network identity.NetworkID `cbor:"2,keyasint"`
	Prices  []priceRow         `cbor:"3,keyasint,omitempty"`
}

func decodeState(b []byte, network identity.NetworkID) ([]priceRow, error) {
	var f stateFile
	if err := identity.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if f.Version != stateVersion || f.Network != network {
		return nil, fmt.Errorf("%w: version %d of network %s", ErrState, f.Version, f.Network)
	}
	seen := map[identity.ServiceID]bool{}
	for _, r := range f.Prices {
		_, err := voucher.ParseGrant(r.Grant)
		if seen[r.Ask.Service] || err != nil || r.Ask.Validate() != nil || r.Next.Sequence != 0 && (r.Next.Validate() != nil || r.Next.Service != r.Ask.Service) {
			return nil, fmt.Errorf("%w: service %s", ErrState, r.Ask.Service.Short())
		}
		seen[r.Ask.Service] = true
	}
	return f.Prices, nil
}

// Terms are what a provider asks.
type Terms struct {
	Price voucher.Price
	// LossAllowance and MaxWindow are as in voucher.Ask.
	LossAllowance, MaxWindow uint32
}

// Post asks money for a service: at once where nothing was asked before, else after an
// epoch; the result says from when. The grant is the service's owner's, once.
func (t *Till) Post(ctx context.Context, grant voucher.Grant, terms Terms) (Price, error) {
	if terms.Price.IsZero() {
		return Price{}, fmt.Errorf("%w: a price above 0 is needed", ErrFree)
	}
	if grant.Node != t.cfg.Node.Node() || grant.Account != t.wallet.Account() || !grant.Verify(t.cfg.Network) {
		return Price{}, ErrNoGrant
	}
	done, err := t.takeTurn(ctx)
	if err != nil {
		return Price{}, err
	}
	defer done()
	defer func() {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}()
	return t.post(ctx, grant, terms)
}

func (t *Till) post(ctx context.Context, grant voucher.Grant, terms Terms) (Price, error) {
	posted, err := t.posted(ctx, grant.Service)
	if err != nil {
		return Price{}, err
	}
	status, err := t.ledger.Status(ctx)
	if err != nil {
		return Price{}, err
	}
	now := t.cfg.Clock()
	ask := voucher.Ask{
		Service: grant.Service, Node: grant.Node, Account: grant.Account, Price: terms.Price,
		LossAllowance: terms.LossAllowance, MaxWindow: terms.MaxWindow, ValidTo: now.Add(t.cfg.Validity).Unix(),
		Sequence: record.NextSequence(max(posted.Ask.Sequence, posted.Next.Sequence), now),
	}
	if _, in := posted.At(now); in {
		ask.ValidFrom = now.Add(Epoch(status.Parameters) + changeMargin).Unix()
	}
	for attempt := 1; ; attempt++ {
		if err := t.submitting(ask, grant); err != nil {
			return Price{}, err
		}
		_, err = t.wallet.PostAsk(ctx, ask, t.cfg.Node, grant)
		r, refused := errors.AsType[*cashier.Rejection](err)
		if !refused || r.Code != cashier.TooSoon || attempt == 2 {
			break
		}
		ask.ValidFrom = time.Unix(r.Time, 0).Add(changeMargin).Unix()
	}
	if err != nil {
		return Price{}, errors.Join(err, t.refused(ask, err))
	}
	return t.accepted(ask)
}

// posted is what the ledger has of a service at this node.
func (t *Till) posted(ctx context.Context, service identity.ServiceID) (cashier.PostedAsk, error) {
	all, err := t.ledger.Asks(ctx, service)
	if err != nil {
		return cashier.PostedAsk{}, err
	}
	for _, p := range all {
		if p.Ask.Node == t.cfg.Node.Node() || p.Next.Node == t.cfg.Node.Node() {
			return p, nil
		}
	}
	return cashier.PostedAsk{}, nil
}

// submitting writes an ask down that is about to be submitted.
func (t *Till) submitting(ask voucher.Ask, grant voucher.Grant) error {
	return t.change(func() error {
		r := t.prices[ask.Service]
		if r == nil || !r.Known {
			r = &priceRow{Ask: ask}
			t.prices[ask.Service] = r
		} else {
			r.settleLocked(t.cfg.Clock())
			r.Next, r.NextKnown = ask, false
		}
		r.Grant = grant.Append(nil)
		return nil
	})
}

// settleLocked makes the announced ask the one in force when its time has come.
func (r *priceRow) settleLocked(now time.Time) {
	if r.NextKnown && r.Next.ValidFrom <= now.Unix() {
		r.Ask, r.Next, r.NextKnown = r.Next, voucher.Ask{}, false
	}
}

// refused takes back what the ledger did not take. Where that is not known, Run asks.
func (t *Till) refused(ask voucher.Ask, err error) error {
	if _, certain := errors.AsType[*cashier.Rejection](err); !certain {
		return nil
	}
	return t.change(func() error {
		switch r := t.prices[ask.Service]; {
		case r == nil:
		case !r.Known:
			delete(t.prices, ask.Service)
		default:
			r.Next, r.NextKnown = voucher.Ask{}, false
		}
		return nil
	})
}

func (t *Till) accepted(ask voucher.Ask) (p Price, err error) {
	err = t.change(func() error {
		r := t.prices[ask.Service]
		switch {
		case r == nil: // withdrawn meanwhile
			return ErrFree
		case r.Ask.Sequence == ask.Sequence:
			r.Known = true
		default:
			r.NextKnown = true
			r.settleLocked(t.cfg.Clock())
		}
		p = r.price()
		return nil
	})
	return p, err
}

// Withdraw makes a service free, at once. Open channels keep their price, but nobody
// is asked for money any more.
func (t *Till) Withdraw(ctx context.Context, service identity.ServiceID) error {
	done, err := t.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	posted, err := t.posted(ctx, service)
	if err != nil {
		return err
	}
	newest := posted.Ask
	if posted.Next.Sequence > newest.Sequence {
		newest = posted.Next
	}
	t.mu.Lock()
	_, known := t.prices[service]
	t.mu.Unlock()
	if newest.Sequence == 0 && !known {
		return ErrFree
	}
	if newest.Sequence != 0 {
		if _, err := t.wallet.WithdrawAsk(ctx, newest); err != nil {
			return err
		}
	}
	return t.change(func() error { delete(t.prices, service); return nil })
}

// renew asks the ledger about asks whose fate is not known, and posts anew those that
// run out.
func (t *Till) renew(ctx context.Context) error {
	now := t.cfg.Clock()
	t.mu.Lock()
	var unknown, ending []priceRow
	for _, r := range t.prices {
		r.settleLocked(now)
		switch last := max(r.Ask.ValidTo, r.Next.ValidTo); {
		case !r.Known || r.Next.Sequence != 0 && !r.NextKnown:
			unknown = append(unknown, *r)
		case last < now.Add(t.cfg.Validity/2).Unix():
			ending = append(ending, *r)
		}
	}
	t.mu.Unlock()
	errs := make([]error, 0, len(unknown)+len(ending))
	for _, r := range unknown {
		errs = append(errs, t.resolve(ctx, r))
	}
	for _, r := range ending {
		ask, grant := r.Ask, r.price().Grant
		if r.NextKnown {
			ask = r.Next
		}
		_, err := t.post(ctx, grant, Terms{ask.Price, ask.LossAllowance, ask.MaxWindow})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// resolve asks whether the ledger has an ask that was submitted.
func (t *Till) resolve(ctx context.Context, r priceRow) error {
	posted, err := t.posted(ctx, r.Ask.Service)
	if err != nil {
		return err
	}
	submitted := r.Ask
	if r.Known {
		submitted = r.Next
	}
	if submitted.Sequence == posted.Ask.Sequence || submitted.Sequence == posted.Next.Sequence {
		_, err := t.accepted(submitted)
		return err
	}
	// It was not taken: once more, as it was meant.
	_, err = t.post(ctx, r.price().Grant, Terms{submitted.Price, submitted.LossAllowance, submitted.MaxWindow})
	return err
}

// Epoch is how long an epoch of the ledger is.
func Epoch(p cashier.Parameters) time.Duration {
	if p.EpochSeconds == 0 {
		return 600 * time.Second
	}
	return time.Duration(p.EpochSeconds) * time.Second
}
