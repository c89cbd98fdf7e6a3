package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// A name is asked for in two steps, so that whoever sees somebody ask for one cannot
// be quicker:
//
//	                 RevealName, once it is old enough: the name is registered
//	 CommitName ───────────────────────────────────────────────────────► revealed
//	      │
//	      └────────► lapsed, a day later: its deposit goes to the treasury
//
// A commit is a hash that tells nothing of the name, and counts for its account
// alone: somebody else's copy of it opens to nothing. A reveal registers finally,
// with one exception: of two reveals of one name in one block the older commit has
// it, wherever in the block they stand. So it does not help to come right after a
// reveal was seen, nor to be the one who orders the block.

// commitLife is how long a commit may be revealed, in seconds.
const commitLife = 24 * 60 * 60

// Salt makes a commit tell nothing of its name. It is drawn at random for each.
type Salt [32]byte

// CommitHash is what a commit says of a name an account wants on a network.
func CommitHash(network identity.NetworkID, owner identity.AccountID, n name.Name, salt Salt) (out Hash) {
	s := sha256.New()
	s.Write([]byte("scn/ledger/v1 name commit"))
	s.Write(network[:])
	s.Write(owner[:])
	s.Write(salt[:])
	s.Write([]byte(n)) // the last: what comes before has a fixed length
	s.Sum(out[:0])
	return out
}

// CommitName announces that the signer wants a name, without saying which; see
// CommitHash. It puts the deposit down.
type CommitName struct {
	Hash Hash `cbor:"1,keyasint"`
}

// RevealName opens a commit of the signer and registers its name for a term in
// seconds, 0 for the usual one; see RenewName.
type RevealName struct {
	Name    name.Name          `cbor:"1,keyasint"`
	Salt    Salt               `cbor:"2,keyasint"`
	Service identity.ServiceID `cbor:"3,keyasint"`
	// Consent is the service key's; see Consent.
	Consent Signature `cbor:"4,keyasint"`
	Term    int64     `cbor:"5,keyasint,omitzero"`
}

// Kind implements Operation.
func (CommitName) Kind() Kind { return KindCommitName }

// Kind implements Operation.
func (RevealName) Kind() Kind { return KindRevealName }

func (o CommitName) check(*Transaction) *Rejection {
	if o.Hash == (Hash{}) {
		return reject(Malformed, "a commit to nothing")
	}
	return nil
}

func (o RevealName) check(tx *Transaction) *Rejection {
	if r := checkTarget(tx, o.Name, o.Service, o.Consent); r != nil {
		return r
	}
	return checkTerm(o.Name, o.Term)
}

// commitRow is a commit. It stays until it would lapse even when revealed.
type commitRow struct {
	hash     Hash
	deposit  voucher.Amount
	place    placeRow // of the transaction: whose commit is the older one
	time     int64
	revealed bool
	next     reference
}

const commitRowSize = 32 + 8 + 8 + 4 + 8 + 1 + referenceSize

func (c commitRow) encode() []byte {
	b := append(make([]byte, 0, commitRowSize), c.hash[:]...)
	b = appendUint64(b, uint64(c.deposit))
	b = appendUint64(b, c.place.Height)
	b = binary.BigEndian.AppendUint32(b, c.place.Index)
	b = appendUint64(b, uint64(c.time))
	if c.revealed {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return c.next.append(b)
}

func decodeCommit(b []byte) (commitRow, error) {
	if len(b) != commitRowSize || b[60] > 1 {
		return commitRow{}, fmt.Errorf("%w: commit row of %d bytes", ErrCorrupt, len(b))
	}
	c := commitRow{
		hash: Hash(b[:32]), deposit: voucher.Amount(binary.BigEndian.Uint64(b[32:])),
		place: placeRow{binary.BigEndian.Uint64(b[40:]), binary.BigEndian.Uint32(b[48:])},
		time:  int64(binary.BigEndian.Uint64(b[52:])), revealed: b[60] == 1,
	}
	var err error
	c.next, err = decodeReference(b[61:])
	return c, err
}

// commitReference names the row of an account's commit.
func commitReference(a identity.AccountID, hash Hash) reference {
	return reference{kind: commitRef, account: a, id: voucher.TransferID(hash[:16])}
}

// depositsKey is the row of the sum of all deposits put down.
var depositsKey = []byte{commitRef}

// deposit changes the sum of all deposits as money was moved, and asserts that it is
// what the account of deposits has.
func (x *execution) deposit(put, taken voucher.Amount) {
	if put == 0 && taken == 0 {
		return
	}
	sum := x.sum(depositsKey)
	rest, ok := sum.Sub(taken)
	if rest, fits := rest.Add(put); ok && fits {
		x.state.set(depositsKey, appendUint64(nil, uint64(rest)))
		x.assertHolds(NamesAccount(x.network), rest, "deposits of commits")
		return
	}
	x.breakInvariant("deposits taken were put down", "%d put down, %d taken, %d before", put, taken, sum)
}

// commit loads an account's commit.
func (x *execution) commit(r reference) (c commitRow, exists bool) {
	b := x.get(x.keyOf(r))
	if b == nil {
		return commitRow{}, false
	}
	c, err := decodeCommit(b)
	x.fail(err)
	return c, true
}

func (o CommitName) apply(x *execution, tx *Transaction) *Rejection {
	r := commitReference(tx.Account, o.Hash)
	if _, exists := x.commit(r); exists || x.err != nil {
		return &Rejection{Code: CommitExists}
	}
	c := commitRow{hash: o.Hash, deposit: x.parameters.CommitDeposit, place: placeRow{x.height, x.accepted}, time: x.time}
	if c.deposit > 0 {
		if r := x.move(tx.Account, NamesAccount(x.network), movement{post: c.deposit}); r != nil || x.err != nil {
			return r
		}
		x.deposit(c.deposit, 0)
	}
	c.next = x.fallsDue(r, x.time+commitLife)
	x.state.set(x.keyOf(r), c.encode())
	return nil
}

// endCommit forgets a commit whose time is over, and takes the deposit of one that
// was not revealed.
func (x *execution) endCommit(r reference) reference {
	c, exists := x.commit(r)
	if !exists {
		x.fail(fmt.Errorf("%w: a commit that falls due does not exist", ErrCorrupt))
		return reference{}
	}
	if !c.revealed && c.deposit > 0 {
		if r := x.move(NamesAccount(x.network), x.parameters.treasury(x.network), movement{post: c.deposit}); r != nil {
			x.breakInvariant("deposits can be taken", "%v", r)
		}
		x.deposit(0, c.deposit)
	}
	x.state.set(x.keyOf(r), nil)
	return c.next
}

// mature refuses a commit that cannot be revealed now.
func (x *execution) mature(n name.Name, c commitRow) *Rejection {
	p := &x.parameters
	wait := max(p.RevealDelayBlocks, 1)
	from := c.time + p.RevealDelay
	switch {
	case x.time > c.time+commitLife:
		return &Rejection{Code: CommitLapsed, Name: n, Time: x.time}
	case x.time < from:
		return &Rejection{Code: CommitImmature, Name: n, Time: from, RetryAfter: uint32(from - x.time)}
	case x.height < c.place.Height+wait:
		left := c.place.Height + wait - x.height
		return &Rejection{Code: CommitImmature, Name: n, Time: from, RetryAfter: 1, Detail: fmt.Sprintf("%d more blocks", left)}
	}
	return nil
}

// reveal is what a reveal of this block did, should an older commit come after it.
type reveal struct {
	commit placeRow
	owner  identity.AccountID
	rent   voucher.Amount
}

func (p placeRow) before(q placeRow) bool {
	return p.Height < q.Height || p.Height == q.Height && p.Index < q.Index
}

func (o RevealName) apply(x *execution, tx *Transaction) *Rejection {
	hash := CommitHash(x.network, tx.Account, o.Name, o.Salt)
	r := commitReference(tx.Account, hash)
	c, exists := x.commit(r)
	if !exists || c.revealed || c.hash != hash || x.err != nil {
		return &Rejection{Code: NoCommit, Name: o.Name}
	}
	if r := x.mature(o.Name, c); r != nil {
		return r
	}
	if r := x.claim(o.Name, c.place); r != nil || x.err != nil {
		return r
	}
	rent, rejection := x.registerName(tx, nameRow{Service: o.Service}, o.Name, o.Term)
	if rejection != nil || x.err != nil {
		return rejection
	}
	if c.deposit > 0 {
		if r := x.move(NamesAccount(x.network), tx.Account, movement{post: c.deposit}); r != nil {
			x.breakInvariant("deposits can be given back", "%v", r)
		}
		x.deposit(0, c.deposit)
	}
	c.revealed = true
	x.state.set(x.keyOf(r), c.encode())
	if x.reveals == nil {
		x.reveals = map[name.Name]reveal{}
	}
	x.reveals[o.Name] = reveal{c.place, tx.Account, rent}
	return nil
}

// claim makes a name free for the holder of a commit, or says who has it. Of two
// reveals in one block the older commit's takes the name from the other, whose rent
// is given back unless the treasury has spent it.
func (x *execution) claim(n name.Name, commit placeRow) *Rejection {
	var row nameRow
	exists := load(x, nameKey(n), &row)
	other, revealed := x.reveals[n]
	switch {
	case x.err != nil:
		return nil
	case revealed && commit.before(other.commit):
		if r := x.addNames(other.owner, n, -1); r != nil {
			x.breakInvariant("an account can have fewer names", "%v", r)
		}
		if treasury := x.parameters.treasury(x.network); other.rent > 0 && treasury != other.owner {
			_ = x.move(treasury, other.owner, movement{post: other.rent}) // refused, it changed nothing
		}
		return nil
	case !x.takeFree(n, &row, exists):
		return &Rejection{Code: NameTaken, Name: n, Owner: row.Owner, Service: row.Service}
	}
	return x.busy(n)
}

// registerName gives a free name to the signer, and takes the rent.
func (x *execution) registerName(tx *Transaction, row nameRow, n name.Name, term int64) (voucher.Amount, *Rejection) {
	if r := x.addNames(tx.Account, n, +1); r != nil || x.err != nil {
		return 0, r
	}
	row.Owner, row.Registered = tx.Account, x.height
	if x.rules < rulesMarket {
		x.put(n, tx, row)
		return 0, nil
	}
	until, rent, r := x.leaseTerm(n, x.time, term)
	if r != nil || x.err != nil {
		return 0, r
	}
	if r := x.payRent(tx.Account, rent); r != nil || x.err != nil {
		return 0, r
	}
	x.keepLease(n, &row, until)
	x.put(n, tx, row)
	return rent, nil
}

// sumDeposits adds up the deposits of all commits, and compares the sum with the one
// kept from block to block and with the special account.
func sumDeposits(s rows, network identity.NetworkID) error {
	var all, sum voucher.Amount
	var failure error
	err := s.scan([]byte{commitRef}, nil, func(key, value []byte) bool {
		if len(key) == 1 {
			all, failure = decodeSum(value)
			return failure == nil
		}
		var c commitRow
		if c, failure = decodeCommit(value); failure == nil && !c.revealed {
			sum += c.deposit
		}
		return failure == nil
	})
	if err := errors.Join(failure, err); err != nil {
		return err
	}
	has, err := readCounters(s, NamesAccount(network))
	if err != nil {
		return err
	}
	if sum != all || has.Balance() != all {
		return fmt.Errorf("%w: deposits add up to %d, the sum is %d, and the account of deposits has %d", ErrCorrupt, sum, all, has.Balance())
	}
	return nil
}
