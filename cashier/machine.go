package cashier

import (
	"fmt"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Result is what became of one transaction of a block.
type Result struct {
	// Rejection is nil for an accepted transaction. A rejected one changed nothing.
	Rejection *Rejection
	// Height and Index say where the transaction is: here, or, if it had been
	// accepted before, there.
	Height uint64
	Index  uint32
	// Again is true when the transaction had been accepted before.
	Again bool
}

// Outcome is what a block does to the state.
type Outcome struct {
	Results []Result
	// Changes are the rows written, in ascending order of their keys.
	Changes []Change
	// AppHash is the app hash after the block.
	AppHash Hash
}

// Apply is the ledger: it judges the block's transactions one after the other
// against the state before it. It is pure; the same state and block give the same
// outcome everywhere. An error means that the block or the state is broken
// (ErrCorrupt), not that a transaction was rejected.
//
// The transactions must be those of the block, from Block.Open.
func Apply(s State, h Header, txs []Transaction) (Outcome, error) {
	x, err := begin(s, h.Network, h.Height, h.Time)
	if err != nil {
		return Outcome{}, err
	}
	results := make([]Result, len(txs))
	for i := range txs {
		if results[i], err = x.execute(&txs[i]); err != nil {
			return Outcome{}, err
		}
	}
	changes := x.state.sorted()
	return Outcome{results, changes, nextAppHash(h.AppHash, h.Height, changes)}, nil
}

// Genesis returns the rows of an empty ledger and its app hash.
func Genesis(network identity.NetworkID, p Parameters) ([]Change, Hash) {
	changes := []Change{{parametersKey, mustEncode(p)}}
	return changes, nextAppHash(Hash(network), 0, changes)
}

// execution is a block in the making.
type execution struct {
	state      *overlay
	network    identity.NetworkID
	height     uint64
	time       int64
	parameters Parameters
	accepted   uint32
	touched    map[name.Name]struct{} // names changed in this block
	err        error                  // first failure to read the state
}

func begin(s State, network identity.NetworkID, height uint64, time int64) (*execution, error) {
	x := &execution{
		state: newOverlay(s), network: network, height: height, time: time,
		touched: map[name.Name]struct{}{},
	}
	switch ok, err := read(s, parametersKey, &x.parameters); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: no parameters", ErrCorrupt)
	}
	return x, nil
}

// execute judges one transaction. After an error the execution must not be used.
func (x *execution) execute(tx *Transaction) (Result, error) {
	if tx.id == (Hash{}) || tx.Network != x.network {
		return Result{}, fmt.Errorf("%w: transaction was not opened for this network", ErrCorrupt)
	}
	var place placeRow
	if load(x, placeKey(tx.id), &place) {
		return Result{Height: place.Height, Index: place.Index, Again: true}, nil
	}
	var account accountRow
	load(x, accountKey(tx.Account), &account)
	var r *Rejection
	switch {
	case x.err != nil:
	case tx.ValidUntil != 0 && x.time > tx.ValidUntil:
		r = &Rejection{Code: Expired, Time: x.time}
	case tx.Sequence <= account.Sequence:
		r = &Rejection{Code: StaleSequence, Sequence: account.Sequence}
	default:
		r = tx.Operation.apply(x, tx)
	}
	if x.err != nil {
		return Result{}, x.err
	}
	if r != nil {
		return Result{Rejection: r}, nil
	}
	// The operation may have changed the account's row.
	load(x, accountKey(tx.Account), &account)
	account.Sequence = tx.Sequence
	x.write(accountKey(tx.Account), account)
	place = placeRow{x.height, x.accepted}
	x.write(placeKey(tx.id), place)
	x.accepted++
	return Result{Height: place.Height, Index: place.Index}, x.err
}

// load reads a row and reports whether it exists; a failure is kept in x.err.
func load[T any](x *execution, key []byte, row *T) bool {
	if x.err != nil {
		return false
	}
	var ok bool
	ok, x.err = read(x.state, key, row)
	return ok
}

func (x *execution) write(key []byte, row any) { x.state.set(key, mustEncode(row)) }

// addNames changes the number of names of an account by delta. It refuses to pass
// the limit; a number below zero is a broken invariant.
func (x *execution) addNames(id identity.AccountID, n name.Name, delta int) *Rejection {
	var account accountRow
	load(x, accountKey(id), &account)
	count := int64(account.Names) + int64(delta)
	switch {
	case x.err != nil:
		return nil
	case count < 0:
		x.err = fmt.Errorf("%w: account %s has %d names", ErrCorrupt, id, count)
		return nil
	case delta > 0 && count > int64(x.parameters.MaxNames):
		return &Rejection{Code: TooManyNames, Name: n, Detail: fmt.Sprintf("at most %d", x.parameters.MaxNames)}
	}
	account.Names = uint32(count)
	x.write(accountKey(id), account)
	if delta > 0 {
		x.state.set(ownedKey(id, n), []byte{})
	} else {
		x.state.set(ownedKey(id, n), nil)
	}
	return nil
}
