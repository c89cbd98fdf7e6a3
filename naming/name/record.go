package name

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// Validity is how long a name record is valid after the authority signed it.
const Validity = 7 * 24 * time.Hour

// MaxSize is the largest encoded name record in bytes, envelopes included.
const MaxSize = 4 << 10

// domain separates signatures over name records from all others.
const domain = "scn/name/v1"

const recordType = "name"

// Errors of Open, besides those of identity.Open.
var (
	// ErrExpired is returned for a record past its NotAfter.
	ErrExpired = errors.New("name: record expired")
	// ErrAuthority is returned for a record signed by no authority of the network.
	ErrAuthority = errors.New("name: not signed by an authority of this network")
	// ErrOther is returned for a record of another name.
	ErrOther = errors.New("name: record of another name")
)

// Record is what the authority signs of a name: who owns it, which service it
// means, and at which height of the ledger. It verifies without the ledger.
//
// Rules for adding a field: next integer key, omitempty, never reuse a key.
type Record struct {
	Name    Name               `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Owner   identity.AccountID `cbor:"3,keyasint"`
	// Sequence is the owner's, raised by each of its updates.
	Sequence uint64 `cbor:"4,keyasint"`
	// Height is the ledger's at the transaction that made this state; the record
	// with the greater one is newer, so nobody outbids a name.
	Height uint64 `cbor:"5,keyasint"`
	// NotAfter is the last second the record is valid, in Unix seconds.
	NotAfter int64 `cbor:"6,keyasint"`
	// Released marks a tombstone: the name is free.
	Released bool `cbor:"7,keyasint,omitempty"`
	// Transaction is the owner's signed envelope this state came from, as the
	// owner sent it.
	Transaction []byte `cbor:"8,keyasint,omitempty"`
	// Lease is until when the name is paid for, in Unix seconds; 0 on a ledger without
	// leases. Past it the name resolves for a while, marked as expired.
	Lease int64 `cbor:"9,keyasint,omitempty"`
	// Suspended marks a name that is held for its owner, whose lease ended long ago,
	// and does not resolve.
	Suspended bool `cbor:"10,keyasint,omitempty"`
}

// Expired reports whether the name is paid for no more.
func (r Record) Expired(now time.Time) bool { return r.Lease != 0 && now.Unix() > r.Lease }

// Seal signs the record with the authority's key.
func (r Record) Seal(authority identity.PrivateKey) ([]byte, error) {
	p, err := identity.Marshal(r)
	if err != nil {
		return nil, err
	}
	b, err := authority.Seal(domain, recordType, p)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("name record of %d bytes, at most %d", len(b), MaxSize)
	}
	return b, nil
}

// Open verifies an encoded record of the name given against the network's
// authorities. With an expired record it returns ErrExpired and the record, for
// the authority to renew.
func Open(n Name, b []byte, authorities []identity.NodeID, now time.Time) (Record, error) {
	if len(b) > MaxSize {
		return Record{}, fmt.Errorf("%w: %d bytes", identity.ErrSize, len(b))
	}
	e, err := identity.Open(domain, recordType, b)
	if err != nil {
		return Record{}, err
	}
	if !slices.Contains(authorities, identity.NodeID(e.Signer)) {
		return Record{}, ErrAuthority
	}
	var r Record
	if err := identity.Unmarshal(e.Payload, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", identity.ErrMalformed, err)
	}
	if r.Name != n {
		return Record{}, ErrOther
	}
	if now.Unix() > r.NotAfter {
		return r, ErrExpired
	}
	return r, nil
}

// Newer reports whether a replaces b: by height, then by the longer lease, then by the
// later validity, then by the bytes, so that every node decides alike.
func Newer(a Record, aBytes []byte, b Record, bBytes []byte) bool {
	if a.Height != b.Height {
		return a.Height > b.Height
	}
	if a.Lease != b.Lease {
		return a.Lease > b.Lease
	}
	if a.NotAfter != b.NotAfter {
		return a.NotAfter > b.NotAfter
	}
	return slices.Compare(aBytes, bBytes) > 0
}
