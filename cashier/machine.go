package cashier

import (
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/proofofservice/evidence"
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
	// Paid is what was settled, and Refused the vouchers of a batch that were not.
	Paid    voucher.Amount
	Refused []Refusal
}

// Outcome is what a block does to the state.
type Outcome struct {
	Results []Result
	// Changes are the rows written, in ascending order of their keys. The app hash
	// follows from them and from what was before; see commitment.
	Changes []Change
}

// Apply is the ledger: it judges the block's transactions one after the other
// against the state before it. It is pure; the same state and block give the same
// outcome everywhere. An error means that the block or the state is broken
// (ErrCorrupt), not that a transaction was rejected.
//
// The transactions must be those of the block, from Block.Open.
func Apply(s State, h Header, txs []Transaction) (Outcome, error) {
	x, err := begin(s, h, len(txs))
	if err != nil {
		return Outcome{}, err
	}
	results := make([]Result, len(txs))
	for i := range txs {
		if results[i], err = x.execute(&txs[i]); err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{results, x.finish()}, x.err
}

// execution is a block in the making.
type execution struct {
	state      *overlay
	network    identity.NetworkID
	rules      uint64
	height     uint64
	time       int64
	parameters Parameters
	accepted   uint32
	touched    map[name.Name]struct{} // names changed in this block
	tx         *Transaction           // being judged
	err        error                  // first failure to read the state, or broken invariant

	// Of the rules of money.
	supply  identity.AccountID
	totals  totals
	queue   queueRow
	written struct { // as the state has them
		totals totals
		queue  queueRow
		market marketRow

		inspection inspectionRow
	}
	expired int // rows that fell due in this block

	// Of the rules of the market.
	special  []identity.AccountID // see payable
	reveals  map[name.Name]reveal // of this block
	payerRow struct {             // see payer
		id            identity.AccountID
		counters      Counters
		exists, known bool
	}

	escrow, vesting identity.AccountID
	market          marketRow
	running         int64          // time less what the ledger had halted
	settled         voucher.Amount // by the transaction being judged
	refused         []Refusal

	// Of inspection.
	inspecting bool // there is some, and inspection is what is kept of it
	inspection inspectionRow
	frames     map[uint64]*evidence.Frame // that were read in this block
	operators  []operator                 // see loadOperators

	key   []byte // scratch: a key being looked up
	arena []byte // where values of rows are made, many to one allocation
}

// begin starts a block of the header's rules, height and time, of about as many
// transactions as size says: what has fallen due by then is done first.
func begin(s State, h Header, size int) (*execution, error) {
	x := &execution{
		state: newOverlay(s, 4*size), network: h.Network, rules: h.Version, height: h.Height, time: h.Time,
		touched: map[name.Name]struct{}{},
	}
	if x.rules < rulesNames || x.rules > RulesVersion {
		return nil, fmt.Errorf("%w: rules of version %d, this program knows %d", ErrFormat, x.rules, RulesVersion)
	}
	switch ok, err := read(s, parametersKey, &x.parameters); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: no parameters", ErrCorrupt)
	}
	if x.rules >= rulesMoney {
		x.beginMoney()
	}
	return x, x.err
}

func (x *execution) beginMoney() {
	x.supply = SupplyAccount(x.network)
	var err error
	if b := x.get(totalsKey); b != nil {
		x.totals, err = decodeTotals(b)
		x.fail(err)
	}
	if b := x.get(queueKey); b != nil {
		x.queue, err = decodeQueue(b)
		x.fail(err)
	}
	x.written.totals, x.written.queue = x.totals, x.queue
	x.assertBalanced()
	if x.rules >= rulesMarket {
		x.beginMarket()
		x.beginInspection(x.beginChannels())
	}
	x.expire()
}

// finish writes what the execution kept to itself and returns all changes.
func (x *execution) finish() []Change {
	if x.totals != x.written.totals {
		x.state.set(totalsKey, x.totals.encode())
	}
	// Buckets passed over in vain need not be remembered.
	if x.queue != x.written.queue && (x.queue.entries != x.written.queue.entries || x.queue.entries > 0) {
		x.state.set(queueKey, x.queue.encode())
	}
	x.finishChannels()
	x.finishInspection()
	return x.state.sorted()
}

// execute judges one transaction. After an error the execution must not be used.
func (x *execution) execute(tx *Transaction) (Result, error) {
	if tx.id == (Hash{}) || tx.Network != x.network {
		return Result{}, fmt.Errorf("%w: transaction was not opened for this network", ErrCorrupt)
	}
	x.tx = tx
	x.settled, x.refused = 0, nil
	x.payerRow.known = false
	x.state.mark()
	if kind := tx.Operation.Kind(); x.rules < kind.rules() {
		return Result{Rejection: reject(UnknownOperation, "%s, under rules of version %d", kind, x.rules)}, nil
	}
	if op, ok := tx.Operation.(identified); ok {
		return x.executeIdentified(tx, op)
	}
	var place placeRow
	if load(x, placeKey(tx.id), &place) {
		return Result{Height: place.Height, Index: place.Index, Again: true}, nil
	}
	var account accountRow
	load(x, accountKey(tx.Account), &account)
	before, queue, inspection := x.totals, x.queue, x.inspection
	r := x.authorise(tx)
	switch {
	case x.err != nil, r != nil:
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
		x.state.rollback()
		x.totals, x.queue, x.inspection = before, queue, inspection
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

// executeIdentified judges a transaction that counts once by its ID.
func (x *execution) executeIdentified(tx *Transaction, op identified) (Result, error) {
	row := transferRow{content: tx.content, place: placeRow{x.height, x.accepted}}
	self := reference{kind: transferRef, account: tx.Account, id: op.transferID()}
	if b := x.get(x.keyOf(self)); b != nil {
		had, err := decodeTransfer(b)
		x.fail(err)
		if x.err == nil && had.content != row.content {
			return Result{Rejection: &Rejection{Code: DuplicateID}}, nil
		}
		return Result{Height: had.place.Height, Index: had.place.Index, Again: true}, x.err
	}
	before, queue, market := x.totals, x.queue, x.market
	inspecting, inspection := x.inspecting, x.inspection
	r := x.authorise(tx)
	switch {
	case x.err != nil, r != nil:
	case x.time > tx.ValidUntil:
		r = &Rejection{Code: Expired, Time: x.time}
	case tx.ValidUntil-x.time > MaxValidity:
		r = &Rejection{Code: BadDeadline, Time: x.time, Detail: "valid for more than 24 hours"}
	default:
		r = op.apply(x, tx)
	}
	if x.err != nil {
		return Result{}, x.err
	}
	if r != nil {
		x.state.rollback()
		x.totals, x.queue, x.market = before, queue, market
		x.inspecting, x.inspection = inspecting, inspection
		return Result{Rejection: r}, nil
	}
	row.next = x.fallsDue(self, tx.ValidUntil)
	x.state.set(x.keyOf(self), x.made(row.append(x.room(transferRowSize))))
	x.accepted++
	return Result{Height: row.place.Height, Index: row.place.Index, Paid: x.settled, Refused: x.refused}, x.err
}

// room returns a slice of no length to which n bytes can be appended; made tells
// what became of it.
func (x *execution) room(n int) []byte {
	if cap(x.arena)-len(x.arena) < n {
		x.arena = make([]byte, 0, 32<<10)
	}
	return x.arena[len(x.arena):len(x.arena):cap(x.arena)]
}

// made keeps what was appended to room.
func (x *execution) made(b []byte) []byte {
	x.arena = x.arena[:len(x.arena)+len(b)]
	return b[:len(b):len(b)]
}

// keyOf returns the key of a row that falls due, until the next key is made.
func (x *execution) keyOf(r reference) []byte {
	x.key = r.appendKey(x.key[:0])
	return x.key
}

// moneyKey returns the key of an account's money row, until the next key is made.
func (x *execution) moneyKey(a identity.AccountID) []byte {
	x.key = append(append(x.key[:0], 'b'), a[:]...)
	return x.key
}

// get reads a row; a failure is kept in x.err.
func (x *execution) get(key []byte) []byte {
	if x.err != nil {
		return nil
	}
	b, err := x.state.Get(key)
	x.fail(err)
	return b
}

// fail keeps the first failure.
func (x *execution) fail(err error) {
	if x.err == nil {
		x.err = err
	}
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
