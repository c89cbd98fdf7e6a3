package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// ListProvider puts a node that provides a service on the rosters to come, or says anew
// what is inspected of it; with Withdraw it takes it off. The signer has bound node and
// service to its account (Bind), or asks money for them. A PostAsk lists its provider by
// itself, to be inspected for what applies to all services, and keeps it listed as long
// as it stands: who takes money is looked at.
type ListProvider struct {
	ID voucher.TransferID `cbor:"1,keyasint"`
	// Provider is the encoding of an evidence.Provider without revenue.
	Provider []byte `cbor:"2,keyasint"`
	Withdraw bool   `cbor:"3,keyasint,omitzero"`
}

// Kind implements Operation.
func (ListProvider) Kind() Kind { return KindListProvider }

func (o ListProvider) transferID() voucher.TransferID { return o.ID }

func (o ListProvider) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	p, err := evidence.ParseProvider(o.Provider)
	switch {
	case err != nil:
		return refuseEvidence(err)
	case p.Revenue != 0:
		return reject(Malformed, "the ledger counts what a provider earns")
	case p.Node.IsZero() || p.Service.IsZero():
		return reject(Malformed, "no node or no service")
	}
	return nil
}

// listingRow is a provider and how it stands. The row stays when the provider leaves.
type listingRow struct {
	Provider []byte             `cbor:"1,keyasint"`
	Account  identity.AccountID `cbor:"2,keyasint"`
	// Slot is its place among the listed ones, if Listed.
	Slot   uint32 `cbor:"3,keyasint,omitzero"`
	Listed bool   `cbor:"4,keyasint,omitzero"`
	// Standing is the encoding of an evidence.Standing.
	Standing []byte `cbor:"5,keyasint"`
}

func listingKey(service identity.ServiceID, node identity.NodeID) []byte {
	return append(append([]byte{listingPrefix}, service[:]...), node[:]...)
}

func providerSlotKey(slot uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{rosterPrefix, 's'}, slot)
}

func revenueKey(service identity.ServiceID, node identity.NodeID) []byte {
	return append(append([]byte{rosterPrefix, 'm'}, service[:]...), node[:]...)
}

// open reads what the row encodes.
func (l *listingRow) open() (evidence.Provider, evidence.Standing, error) {
	p, err := evidence.ParseProvider(l.Provider)
	s, standing := evidence.ParseStanding(l.Standing)
	if err := errors.Join(err, standing); err != nil {
		return p, s, fmt.Errorf("%w: listing: %w", ErrCorrupt, err)
	}
	return p, s, nil
}

func sortProviders(p []evidence.Provider) {
	slices.SortFunc(p, func(a, b evidence.Provider) int { return a.Compare(b) })
}

// providerAt loads the provider in a slot, which is taken.
func (x *execution) providerAt(slot uint32) (evidence.Provider, listingRow, bool) {
	b := x.get(providerSlotKey(slot))
	var row listingRow
	if len(b) == 2*identity.Size && load(x, append([]byte{listingPrefix}, b...), &row) {
		p, _, err := row.open()
		x.fail(err)
		return p, row, x.err == nil
	}
	x.fail(fmt.Errorf("%w: no provider in slot %d of %d", ErrCorrupt, slot, x.inspection.Providers))
	return evidence.Provider{}, row, false
}

func (o ListProvider) apply(x *execution, tx *Transaction) *Rejection {
	p, err := evidence.ParseProvider(o.Provider)
	if err != nil {
		return refuseEvidence(err)
	}
	var bound bindingRow
	ask, asked := x.ask(askReference(p.Service, p.Node))
	asked = asked && (ask.current.Account == tx.Account || ask.next.Account == tx.Account) && PostedAsk{ask.current, ask.next}.node() == p.Node
	isBound := load(x, bindingKey(p.Node, p.Service), &bound) && bound.Account == tx.Account
	switch {
	case x.err != nil:
		return nil
	case !asked && !isBound:
		return &Rejection{Code: NotBound, Account: tx.Account, Service: p.Service}
	case o.Withdraw && asked:
		return reject(NotAllowed, "who asks money is inspected: withdraw the ask first")
	case o.Withdraw:
		return x.unlist(p.Service, p.Node)
	}
	if r := x.startInspection(); r != nil || x.err != nil {
		return r
	}
	return x.list(p, tx.Account, true)
}

// list puts a provider on the rosters to come. anew says whether what is known of one
// that is on them is replaced.
func (x *execution) list(p evidence.Provider, account identity.AccountID, anew bool) *Rejection {
	s := &x.inspection
	key := listingKey(p.Service, p.Node)
	var row listingRow
	known := load(x, key, &row)
	switch {
	case row.Listed && !anew:
		return nil
	case !row.Listed && s.Providers >= x.parameters.maxProviders():
		return reject(RosterFull, "at most %d providers", x.parameters.maxProviders())
	}
	if !known {
		rules := x.parameters.inspection()
		row.Standing = evidence.NewStanding(&rules, p, s.Epoch+evidence.RosterLead).Append(nil)
	}
	if !row.Listed {
		row.Slot, row.Listed = s.Providers, true
		x.state.set(providerSlotKey(row.Slot), key[1:])
		x.state.set(revenueKey(p.Service, p.Node), revenueRow{epoch: s.Epoch}.encode())
		s.Providers++
	}
	row.Provider, row.Account = p.Append(nil), account
	x.write(key, row)
	return nil
}

// unlist takes a provider off the rosters to come.
func (x *execution) unlist(service identity.ServiceID, node identity.NodeID) *Rejection {
	s := &x.inspection
	key := listingKey(service, node)
	var row listingRow
	if !x.inspecting || !load(x, key, &row) || !row.Listed {
		return &Rejection{Code: NotListed, Service: service}
	}
	p, last, ok := x.providerAt(s.Providers - 1) // takes its slot
	if !ok {
		return nil
	}
	s.Providers--
	x.state.set(providerSlotKey(s.Providers), nil)
	if row.Slot != s.Providers {
		last.Slot = row.Slot
		moved := listingKey(p.Service, p.Node)
		x.state.set(providerSlotKey(row.Slot), moved[1:])
		x.write(moved, last)
	}
	row.Listed, row.Slot = false, 0
	x.write(key, row)
	x.state.set(revenueKey(service, node), nil)
	return nil
}

// listAsk lists the provider of an ask that was just posted.
func (x *execution) listAsk(ask *voucher.Ask) {
	if x.inspecting && x.err == nil {
		kinds := evidence.KindsOf(evidence.Reach, evidence.Latency, evidence.Price)
		// A roster that is full keeps nobody from asking.
		_ = x.list(evidence.Provider{Service: ask.Service, Node: ask.Node, Kinds: kinds}, ask.Account, false)
	}
}

// unlistAsk takes a provider off whose last ask has ended, unless it is bound, and so
// was or could be listed without.
func (x *execution) unlistAsk(row *askRow) {
	for _, ask := range []*voucher.Ask{&row.current, &row.next} {
		var bound bindingRow
		if x.inspecting && *ask != (voucher.Ask{}) && !load(x, bindingKey(ask.Node, ask.Service), &bound) {
			_ = x.unlist(ask.Service, ask.Node) // it may not be listed
		}
	}
}

// revenueRow is what was settled to a provider lately: each epoch a sixteenth of it is
// forgotten.
type revenueRow struct {
	epoch uint64
	sum   voucher.Amount
}

func (r revenueRow) encode() []byte { return appendUint64(appendUint64(nil, r.epoch), uint64(r.sum)) }

func decodeRevenue(b []byte) (revenueRow, error) {
	if len(b) != 16 {
		return revenueRow{}, fmt.Errorf("%w: revenue row of %d bytes", ErrCorrupt, len(b))
	}
	return revenueRow{binary.BigEndian.Uint64(b), voucher.Amount(binary.BigEndian.Uint64(b[8:]))}, nil
}

// at returns the row as it stands in a later epoch.
func (r revenueRow) at(epoch uint64) revenueRow {
	for ; r.epoch < epoch && r.sum > 0; r.epoch++ {
		r.sum -= max(r.sum/16, 1)
	}
	r.epoch = max(r.epoch, epoch)
	return r
}

// revenue returns what was settled to a listed provider lately.
func (x *execution) revenue(service identity.ServiceID, node identity.NodeID) uint64 {
	b := x.get(revenueKey(service, node))
	if b == nil {
		return 0
	}
	r, err := decodeRevenue(b)
	x.fail(err)
	return uint64(r.at(x.inspection.Epoch).sum)
}

// earn counts what was settled to a provider, if it is listed.
func (x *execution) earn(service identity.ServiceID, node identity.NodeID, amount voucher.Amount) {
	if !x.inspecting {
		return
	}
	key := revenueKey(service, node)
	b := x.get(key)
	if b == nil {
		return
	}
	r, err := decodeRevenue(b)
	x.fail(err)
	r = r.at(x.inspection.Epoch)
	if sum, ok := r.sum.Add(amount); ok {
		r.sum = sum
	}
	x.state.set(key, r.encode())
}
