package cashier

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// recordStep is how coarse a record's NotAfter is: all records of one state signed
// within it are the same bytes, so publishing one again replaces nothing.
const recordStep = time.Hour

// tombstoneLife is how long a released name's record is worth publishing: until
// every record it replaces has expired.
const tombstoneLife = name.Validity + 24*time.Hour

// Answer is what a ledger says about a name. It was verified by whoever returned
// it: a Client checked the authority's signatures.
type Answer struct {
	Name name.Name
	// Registered tells whether the name has an owner. If not, this was said by an
	// authority of the network, as of Height and Time.
	Registered bool
	// Record is the name's record, and Signed the record in its envelope, for
	// publishing. A name that was released has a tombstone; one that never existed
	// has none, and Signed is nil.
	Record name.Record
	Signed []byte
	// Offered is the account the owner offered the name to, if any.
	Offered identity.AccountID
	// Since is the height at which the name was registered.
	Since uint64
	// Phase is where in its life the name is: one that is suspended is registered and
	// does not resolve. Record.Lease is until when it is paid for.
	Phase NamePhase
	// Height and Time are those of the ledger when it answered, in Unix seconds.
	Height uint64
	Time   int64
	// Proof is the checkpoint under which a Client checked all of this. It is zero
	// from a Ledger: that is whom others ask.
	Proof SignedCheckpoint
}

// Status is where a ledger stands, as signed by its authority.
type Status struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Height  uint64             `cbor:"2,keyasint"`
	// Block is the hash of the newest block, AppHash the app hash after it.
	Block   Hash `cbor:"3,keyasint"`
	AppHash Hash `cbor:"4,keyasint"`
	// BlockTime is the newest block's and Time the authority's, in Unix seconds.
	BlockTime  int64      `cbor:"5,keyasint"`
	Time       int64      `cbor:"6,keyasint"`
	Parameters Parameters `cbor:"7,keyasint"`
	// Rules is the version of the rules the next block is made by.
	Rules  uint64 `cbor:"8,keyasint,omitzero"`
	Supply Supply `cbor:"9,keyasint,omitzero"`
	// Pruned is the height up to which blocks are kept no more; 0 in an archive.
	Pruned uint64 `cbor:"10,keyasint,omitzero"`
}

// OwnedName is a name in a list of an account's names.
type OwnedName struct {
	Name    name.Name          `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Offered identity.AccountID `cbor:"3,keyasint,omitzero"`
	Height  uint64             `cbor:"4,keyasint"`
	Since   uint64             `cbor:"5,keyasint"`
	// Lease is until when it is paid for, in Unix seconds, and Phase what follows.
	Lease int64     `cbor:"6,keyasint,omitzero"`
	Phase NamePhase `cbor:"7,keyasint,omitzero"`
}

// SignedRecord is a name record with its signature.
type SignedRecord struct {
	Record name.Record
	Signed []byte
}

// Lookup says who has a name, with a record signed afresh where there is one.
func (l *Ledger) Lookup(_ context.Context, n name.Name) (Answer, error) {
	if r := checkName(n); r != nil {
		return Answer{}, r
	}
	var out Answer
	err := l.snapshot(func(s rows, h head) (err error) {
		out, err = l.lookup(s, n, h.Height, l.now())
		return err
	})
	return out, err
}

// lookup says who has a name in a state.
func (l *Ledger) lookup(s State, n name.Name, height uint64, now time.Time) (Answer, error) {
	out := Answer{Name: n, Height: height, Time: now.Unix()}
	ends, err := leasesOf(s)
	if err != nil {
		return Answer{}, err
	}
	var row nameRow
	found, err := read(s, nameKey(n), &row)
	if err != nil {
		return Answer{}, err
	}
	if !found || forgotten(&row, ends, now) {
		return out, nil
	}
	r, err := l.sign(n, row, ends, now)
	if err != nil {
		return Answer{}, err
	}
	out.Registered, out.Record, out.Signed = !row.Released, r.Record, r.Signed
	out.Offered, out.Since, out.Phase = row.Offered, row.Registered, ends.phase(&row, now.Unix())
	return out, nil
}

// Names returns up to limit names of an account in alphabetic order, beginning
// after the name given ("" begins at the first).
func (l *Ledger) Names(_ context.Context, owner identity.AccountID, after name.Name, limit int) ([]OwnedName, error) {
	var out []OwnedName
	prefix := ownedKey(owner, "")
	var from []byte
	if after != "" {
		from = ownedKey(owner, after)
	}
	now := l.now().Unix()
	err := l.read(func(s rows) error {
		ends, failure := leasesOf(s)
		if failure != nil {
			return failure
		}
		err := s.scan(prefix, from, func(key, _ []byte) bool {
			if len(out) >= limit {
				return false
			}
			n := name.Name(key[len(prefix):])
			var row nameRow
			if _, failure = read(s, nameKey(n), &row); failure != nil {
				return false
			}
			// The name may have changed hands since the iterator was made.
			if phase := ends.phase(&row, now); row.Owner == owner && phase != NameFree {
				out = append(out, OwnedName{n, row.Service, row.Offered, row.Height, row.Registered, ends.until(&row), phase})
			}
			return true
		})
		return errors.Join(failure, err)
	})
	return out, err
}

// Status returns where the ledger stands.
func (l *Ledger) Status(context.Context) (Status, error) {
	s := Status{Time: l.now().Unix()}
	err := l.snapshot(func(r rows, h head) error {
		s.Network, s.Height, s.Block, s.AppHash, s.BlockTime = h.Network, h.Height, h.Block, h.AppHash, h.Time
		s.Rules, s.Pruned = l.rules.at(h.Height+1), l.begin.Load()
		if _, err := read(r, parametersKey, &s.Parameters); err != nil {
			return err
		}
		var err error
		s.Supply, err = readSupply(r, h.Network, s.Parameters)
		return err
	})
	return s, err
}

// Blocks returns encoded blocks from a height on, at most limit of them and, after
// the first, at most maxBytes together. It returns none above the newest.
func (l *Ledger) Blocks(_ context.Context, from uint64, limit, maxBytes int) ([][]byte, error) {
	var out [][]byte
	size := 0
	err := l.read(func(s rows) error {
		if begin := l.begin.Load(); from <= begin && begin > 0 {
			return reject(Pruned, "blocks up to %d were pruned", begin)
		}
		for height := max(from, 1); len(out) < limit; height++ {
			b, err := readBlock(s.r, height)
			if err != nil || b == nil || (len(out) > 0 && size+len(b) > maxBytes) {
				return err
			}
			out = append(out, b)
			size += len(b)
		}
		return nil
	})
	return out, err
}

// Records yields the signed record of every registered name, and the tombstone of
// every name released within the last eight days, in alphabetic order. Other calls
// may be made meanwhile; a name changed meanwhile may come in either state.
func (l *Ledger) Records(ctx context.Context) iter.Seq2[SignedRecord, error] {
	return func(yield func(SignedRecord, error) bool) {
		var after []byte
		for {
			page, last, err := l.recordPage(after, 256)
			for _, r := range page {
				if ctx.Err() != nil {
					yield(SignedRecord{}, ctx.Err())
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(SignedRecord{}, err)
				return
			}
			if last == nil {
				return
			}
			after = last
		}
	}
}

// recordPage signs the records of up to limit names after the key given. It returns
// the last key it saw, nil at the end.
func (l *Ledger) recordPage(after []byte, limit int) (page []SignedRecord, last []byte, err error) {
	now := l.now()
	seen := 0
	err = l.read(func(s rows) error {
		ends, failure := leasesOf(s)
		if failure != nil {
			return failure
		}
		err := s.scan([]byte{'n'}, after, func(key, value []byte) bool {
			if seen == limit {
				last = slices.Clone(after)
				return false
			}
			seen++
			after = append(after[:0:0], key...)
			var row nameRow
			if err := identity.Unmarshal(slices.Clone(value), &row); err != nil {
				failure = fmt.Errorf("%w: row %q: %w", ErrCorrupt, key, err)
				return false
			}
			if row.Released && now.Sub(time.Unix(row.Time, 0)) > tombstoneLife || forgotten(&row, ends, now) {
				return true
			}
			r, err := l.sign(name.Name(key[1:]), row, ends, now)
			if err != nil {
				failure = err
				return false
			}
			page = append(page, r)
			return true
		})
		return errors.Join(failure, err)
	})
	return page, last, err
}

// now is the ledger's time, never before the newest block's: a machine that starts
// with its clock at the epoch must not sign records that have expired already.
func (l *Ledger) now() time.Time {
	newest := l.head.Load().Time
	now, last := l.time.now(newest), time.Unix(newest, 0)
	if now.Before(last) {
		return last
	}
	return now
}

// leasesOf reads what the life of names depends on.
func leasesOf(s State) (leases, error) {
	var p Parameters
	if _, err := read(s, parametersKey, &p); err != nil {
		return leases{}, err
	}
	return readLeases(s, p)
}

// forgotten reports whether a name's grace is over, and its row just not cleared yet.
func forgotten(row *nameRow, ends leases, now time.Time) bool {
	return !row.Released && ends.phase(row, now.Unix()) == NameFree
}

// sign makes the record of a name. It is valid for name.Validity and up to one
// recordStep less, but not beyond the part of the name's life it speaks of: the record
// of a name that is paid for does not outlive its lease. It depends on nothing but the
// row, the parameters and that step.
func (l *Ledger) sign(n name.Name, row nameRow, ends leases, now time.Time) (SignedRecord, error) {
	r := name.Record{
		Name: n, Service: row.Service, Owner: row.Owner, Sequence: row.Sequence, Height: row.Height,
		NotAfter: now.Truncate(recordStep).Add(name.Validity).Unix(),
		Released: row.Released, Transaction: row.Transaction,
	}
	if until := ends.until(&row); !row.Released && until != 0 {
		r.Lease = until
		switch ends.phase(&row, now.Unix()) {
		case NameHeld:
			r.NotAfter = min(r.NotAfter, until)
		case NameExpired:
			r.NotAfter = min(r.NotAfter, ends.resolves(until))
		case NameSuspended, NameFree:
			r.NotAfter, r.Suspended = min(r.NotAfter, ends.free(until)-1), true
		}
	}
	b, err := r.Seal(l.key)
	if err != nil {
		return SignedRecord{}, fmt.Errorf("sign record of %s: %w", n, err)
	}
	return SignedRecord{r, b}, nil
}
