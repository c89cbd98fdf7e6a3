package cashier

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// State is the rows a block builds on. Get returns nil for a row that does not
// exist; the caller does not change what it returns. An error means the state
// cannot be read, and stops the block.
type State interface {
	Get(key []byte) ([]byte, error)
}

// Change is one row a block writes; a nil Value deletes it.
type Change struct {
	Key, Value []byte
}

// accountRow is what the ledger knows of an account.
type accountRow struct {
	Sequence uint64 `cbor:"1,keyasint"`
	Names    uint32 `cbor:"2,keyasint,omitzero"`
}

// nameRow is the state of a name. A released name keeps its row: its record is
// the tombstone that replaces older ones in the DHT.
type nameRow struct {
	Owner    identity.AccountID `cbor:"1,keyasint"`
	Service  identity.ServiceID `cbor:"2,keyasint"`
	Sequence uint64             `cbor:"3,keyasint"`
	// Height and Time are those of the block that made this state.
	Height   uint64             `cbor:"4,keyasint"`
	Time     int64              `cbor:"5,keyasint"`
	Offered  identity.AccountID `cbor:"6,keyasint,omitzero"`
	Released bool               `cbor:"7,keyasint,omitzero"`
	// Registered is the height at which the name was last registered.
	Registered uint64 `cbor:"8,keyasint"`
	// Transaction is the owner's signed envelope this state came from.
	Transaction []byte `cbor:"9,keyasint"`
	// Lease is when what is paid for ends, in Unix seconds; 0 for a name registered
	// before there were leases. See leases.until.
	Lease int64 `cbor:"10,keyasint,omitzero"`
}

// placeRow is where an accepted transaction is.
type placeRow struct {
	Height uint64 `cbor:"1,keyasint"`
	Index  uint32 `cbor:"2,keyasint"`
}

func accountKey(a identity.AccountID) []byte { return append([]byte{'a'}, a[:]...) }
func nameKey(n name.Name) []byte             { return append([]byte{'n'}, n...) }
func placeKey(id Hash) []byte                { return append([]byte{'i'}, id[:]...) }
func ownedKey(a identity.AccountID, n name.Name) []byte {
	return append(append([]byte{'o'}, a[:]...), n...)
}

var parametersKey = []byte{'p'}

// overlay is a state with the changes of a block on top of it.
type overlay struct {
	base    State
	changes map[string][]byte // nil: deleted
	journal []overwritten     // since the last mark
}

// overwritten is what a change replaced in the overlay.
type overwritten struct {
	key   string
	value []byte
	had   bool
}

// newOverlay returns an overlay with room for so many changes.
func newOverlay(base State, size int) *overlay {
	return &overlay{base: base, changes: make(map[string][]byte, size)}
}

func (o *overlay) Get(key []byte) ([]byte, error) {
	if v, ok := o.changes[string(key)]; ok {
		return v, nil
	}
	return o.base.Get(key)
}

func (o *overlay) set(key, value []byte) {
	k := string(key)
	old, had := o.changes[k]
	o.journal = append(o.journal, overwritten{k, old, had})
	o.changes[k] = value
}

// mark begins what rollback takes back.
func (o *overlay) mark() { o.journal = o.journal[:0] }

// rollback takes back all changes since mark.
func (o *overlay) rollback() {
	for _, w := range slices.Backward(o.journal) {
		if w.had {
			o.changes[w.key] = w.value
		} else {
			delete(o.changes, w.key)
		}
	}
	o.mark()
}

// sorted returns the changes in order of their keys: the one order of the app hash.
func (o *overlay) sorted() []Change {
	out := make([]Change, 0, len(o.changes))
	for k, v := range o.changes {
		out = append(out, Change{[]byte(k), v})
	}
	slices.SortFunc(out, func(a, b Change) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

// read sets row to the row at key, and reports whether there is one. If not, row
// becomes the zero value.
func read[T any](s State, key []byte, row *T) (bool, error) {
	var fresh T // what is decoded into must be zero, for fields left out
	*row = fresh
	b, err := s.Get(key)
	if err != nil || b == nil {
		return false, err
	}
	if err := identity.Unmarshal(b, &fresh); err != nil {
		return false, fmt.Errorf("%w: row %q: %w", ErrCorrupt, key, err)
	}
	*row = fresh
	return true, nil
}

func mustEncode(row any) []byte {
	b, err := identity.Marshal(row)
	if err != nil {
		panic(err) // plain values always encode
	}
	return b
}

// The domains of chains of changes.
const (
	// allRows is the app hash of the first two rules: it covers every row.
	allRows = "scn/ledger/v1 app"
	// otherRows covers the rows that are in no tree.
	otherRows = "scn/ledger/v3 rows"
)

// chainChanges chains the changes of a block to the hash before it.
func chainChanges(domain string, previous Hash, height uint64, changes []Change) (out Hash) {
	s := sha256.New()
	var n [8]byte
	number := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		s.Write(n[:])
	}
	s.Write([]byte(domain))
	s.Write(previous[:])
	number(height)
	number(uint64(len(changes)))
	for _, c := range changes {
		number(uint64(len(c.Key)))
		s.Write(c.Key)
		if c.Value == nil {
			s.Write([]byte{0})
			continue
		}
		s.Write([]byte{1})
		number(uint64(len(c.Value)))
		s.Write(c.Value)
	}
	s.Sum(out[:0])
	return out
}
