package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// What falls due — a transfer's ID that may be forgotten, a reserved amount that
// goes back, a commit that lapses, a lease that ends, a channel or an ask that ends,
// money that vests — hangs in a list of its time: one list for every 16 seconds, each
// entry's row naming the next one. A row leads to the newest entry of each list.
//
//	d<bucket> ──► row of an ID or a hold ──► row ──► … ──► end
//	q             first bucket not yet emptied, number of entries in all lists
//
// So it takes no order of keys and no scan to find what is due, and a block
// touches no more than it adds or empties.

// dueShift makes buckets of seconds: 16 of them.
const dueShift = 4

// dueSteps bounds the work of one block on what is due: entries, and buckets
// passed. It is more than a block can add, so a backlog always shrinks.
const dueSteps = 2*MaxBlockTransactions + 1024

// reference names a row that falls due.
type reference struct {
	kind    byte // transferRef and the like; 0 is the end of a list
	account identity.AccountID
	id      voucher.TransferID
	move    uint8 // of a hold: its place in the transaction; of a channel: which list
}

const (
	transferRef = 't'
	holdRef     = 'h'
	channelRef  = 'c'
	askRef      = 'k'
	vestingRef  = 'v'
	commitRef   = 'm'
	stakeRef    = 'g'
	leaseRef    = 'x'
	keysRef     = 'y'

	referenceSize = 1 + 32 + 16 + 1
)

// key returns the key of the row.
func (r reference) key() []byte { return r.appendKey(make([]byte, 0, referenceSize)) }

func (r reference) appendKey(b []byte) []byte {
	b = append(append(b, r.kind), r.account[:]...)
	if r.kind == channelRef { // whose ID stands where others have an account
		return b
	}
	b = append(b, r.id[:]...)
	if r.kind == holdRef {
		b = append(b, r.move)
	}
	return b
}

func (r reference) append(b []byte) []byte {
	return append(append(append(append(b, r.kind), r.account[:]...), r.id[:]...), r.move)
}

// decodeReference reads a reference of referenceSize bytes.
func decodeReference(b []byte) (reference, error) {
	r := reference{
		kind: b[0], account: identity.AccountID(b[1:33]), id: voucher.TransferID(b[33:49]), move: b[49],
	}
	switch r.kind {
	case transferRef, holdRef, channelRef, askRef, vestingRef, commitRef, stakeRef, leaseRef, keysRef:
		return r, nil
	}
	if r != (reference{}) {
		return reference{}, fmt.Errorf("%w: reference of kind %d", ErrCorrupt, r.kind)
	}
	return r, nil
}

// errMissing is the error of a list that names a row there is not.
func errMissing(what string) error {
	return fmt.Errorf("%w: a %s that falls due does not exist", ErrCorrupt, what)
}

// queueRow says what is left of the lists.
type queueRow struct {
	bucket  uint64 // the first one not yet emptied
	entries uint64
}

var queueKey = []byte{'q'}

func (q queueRow) encode() []byte { return appendUint64(appendUint64(nil, q.bucket), q.entries) }

func decodeQueue(b []byte) (queueRow, error) {
	if len(b) != 16 {
		return queueRow{}, fmt.Errorf("%w: queue row of %d bytes", ErrCorrupt, len(b))
	}
	return queueRow{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

func bucketKey(bucket uint64) []byte { return appendUint64([]byte{'d'}, bucket) }

// fallsDue puts a row on the list of a time that has not passed, and returns the
// row that comes after it there, for the row to name.
func (x *execution) fallsDue(r reference, at int64) reference {
	key := bucketKey(uint64(at) >> dueShift)
	next := x.reference(x.get(key))
	x.state.set(key, x.made(r.append(x.room(referenceSize))))
	x.queue.entries++
	return next
}

func (x *execution) reference(b []byte) reference {
	if b == nil {
		return reference{}
	}
	if len(b) != referenceSize {
		x.fail(fmt.Errorf("%w: reference of %d bytes", ErrCorrupt, len(b)))
		return reference{}
	}
	r, err := decodeReference(b)
	x.fail(err)
	return r
}

// expire empties the lists whose time has passed.
func (x *execution) expire() {
	now := uint64(x.time) >> dueShift
	for steps := 0; x.queue.entries > 0 && x.queue.bucket < now && steps < dueSteps && x.err == nil; steps++ {
		key := bucketKey(x.queue.bucket)
		b := x.get(key)
		if b == nil {
			x.queue.bucket++
			continue
		}
		r := x.reference(b)
		var next reference
		switch r.kind {
		case transferRef:
			next = x.forget(r)
		case holdRef:
			next = x.returnHold(r)
		case channelRef:
			next = x.channelDue(r)
		case askRef:
			next = x.askDue(r)
		case vestingRef:
			next = x.release(r)
		case commitRef:
			next = x.endCommit(r)
		case stakeRef:
			next = x.endUnbonding(r)
		case leaseRef:
			next = x.endLease(r)
		case keysRef:
			next = x.endRecovery(r)
		}
		if x.err != nil {
			return
		}
		if next.kind == 0 {
			x.state.set(key, nil)
		} else {
			x.state.set(key, x.made(next.append(x.room(referenceSize))))
		}
		x.queue.entries--
		x.expired++
	}
	if x.queue.entries == 0 {
		x.queue.bucket = max(x.queue.bucket, now)
	}
}

// transferRow remembers an accepted transaction about money by its ID, until it
// could no longer be accepted again.
type transferRow struct {
	content [16]byte // see contentOf
	place   placeRow
	next    reference
}

const transferRowSize = 16 + 8 + 4 + referenceSize

func (t transferRow) encode() []byte { return t.append(make([]byte, 0, transferRowSize)) }

func (t transferRow) append(b []byte) []byte {
	b = append(b, t.content[:]...)
	b = appendUint64(b, t.place.Height)
	b = binary.BigEndian.AppendUint32(b, t.place.Index)
	return t.next.append(b)
}

func decodeTransfer(b []byte) (transferRow, error) {
	if len(b) != transferRowSize {
		return transferRow{}, fmt.Errorf("%w: transfer row of %d bytes", ErrCorrupt, len(b))
	}
	next, err := decodeReference(b[28:])
	return transferRow{
		[16]byte(b[:16]), placeRow{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:])}, next,
	}, err
}

func transferKey(a identity.AccountID, id voucher.TransferID) []byte {
	return reference{kind: transferRef, account: a, id: id}.key()
}

// forget prunes a transfer's ID.
func (x *execution) forget(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(errMissing("transfer"))
		return reference{}
	}
	row, err := decodeTransfer(b)
	x.fail(err)
	x.state.set(x.keyOf(r), nil)
	return row.next
}
