package routing

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// Errors of the validator.
var (
	// errFuture is returned for a record valid for longer than its kind may be.
	errFuture = errors.New("routing: record valid for too long")
	// errEmpty is returned when there is nothing to select from.
	errEmpty = errors.New("routing: no valid record to select from")
)

// maxNodeValidity is the longest a NodeRecord may claim to be valid: Config allows
// one hour.
const maxNodeValidity = time.Hour

// verified remembers this many records whose signatures were checked: a lookup
// hears the same record from up to 20 peers, and a check costs some 60 µs.
const verifiedSize = 1024

// opened is a record whose signature verified.
type opened struct {
	decoded any   // record.NodeRecord, record.ServiceRecord, name.Record or network.File
	order   int64 // what decides first which of two is newer …
	then    int64 // … and second; the bytes decide last
	expires time.Time
}

// validator says which values may stand under which key and which of several is
// the newest. It is kad-dht's record.Validator, and the one gate every record
// passes, whether it comes from the DHT, from disk or from this program.
type validator struct {
	clock    func() time.Time
	file     func() network.File
	verified *lru.Cache[[sha256.Size]byte, opened]

	mu      sync.Mutex
	refused map[string]uint64 // by reason; guarded by mu
}

func newValidator(clock func() time.Time, file func() network.File) (*validator, error) {
	verified, err := lru.New[[sha256.Size]byte, opened](verifiedSize)
	if err != nil {
		return nil, err
	}
	return &validator{clock: clock, file: file, verified: verified, refused: map[string]uint64{}}, nil
}

// Validate implements record.Validator of libp2p.
func (v *validator) Validate(key string, value []byte) error {
	_, err := v.open(key, value)
	if err != nil {
		v.count(err)
	}
	return err
}

// Select implements record.Validator of libp2p. It returns the first of the newest
// valid values, so that a value never replaces an equal one.
func (v *validator) Select(key string, values [][]byte) (int, error) {
	best, at := opened{}, -1
	for i, value := range values {
		o, err := v.open(key, value)
		if err == nil && (at < 0 || compare(o, value, best, values[at]) > 0) {
			best, at = o, i
		}
	}
	if at < 0 {
		return 0, errEmpty
	}
	return at, nil
}

// open verifies a value. An expired record comes with its error and its contents.
func (v *validator) open(key string, value []byte) (opened, error) {
	if len(value) > network.MaxSize {
		return opened{}, fmt.Errorf("%w: %d bytes", identity.ErrSize, len(value))
	}
	h := sha256.New()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(value)
	digest := [sha256.Size]byte(h.Sum(nil))
	o, ok := v.verified.Get(digest)
	if !ok {
		t, err := parseKey(key)
		if err != nil {
			return opened{}, err
		}
		if o, err = v.decode(t, value); err != nil {
			return opened{}, err
		}
		v.verified.Add(digest, o)
	}
	return o, v.inTime(o)
}

// decode verifies all of a value that does not depend on the time.
func (v *validator) decode(t target, value []byte) (opened, error) {
	long := time.Unix(0, 0) // nothing is expired then
	switch t.kind {
	case nodeKind:
		r, err := record.OpenNode(t.id, value, long)
		return opened{r, clampSequence(r.Sequence), 0, time.Unix(r.NotAfter, 0)}, err
	case serviceKind:
		r, err := record.OpenService(t.id, value, long)
		return opened{r, clampSequence(r.Sequence), 0, time.Unix(r.NotAfter, 0)}, err
	case nameKind:
		r, err := name.Open(t.name, value, v.file().Authorities, long)
		return opened{r, clampSequence(r.Height), r.NotAfter, time.Unix(r.NotAfter, 0)}, err
	case networkKind:
		if identity.NetworkID(t.id) != v.file().ID {
			return opened{}, network.ErrOther
		}
		f, err := network.ParseOf(t.id, value)
		return opened{f, clampSequence(f.Sequence), 0, time.Time{}}, err
	}
	return opened{}, errKey
}

// inTime checks the times of a verified record.
func (v *validator) inTime(o opened) error {
	now := v.clock()
	if !o.expires.IsZero() && now.Unix() > o.expires.Unix() {
		if _, ok := o.decoded.(name.Record); ok {
			return name.ErrExpired
		}
		return record.ErrExpired
	}
	var most time.Duration
	switch o.decoded.(type) {
	case record.NodeRecord:
		most = maxNodeValidity
	case record.ServiceRecord:
		most = record.ServiceValidity
	case name.Record:
		most = name.Validity
	default:
		return nil
	}
	if o.expires.After(now.Add(most + record.ClockSkew)) {
		return errFuture
	}
	return nil
}

// purge forgets verified records, as their validity may hang on the authorities.
func (v *validator) purge() { v.verified.Purge() }

// count notes why a record was refused.
func (v *validator) count(err error) {
	reason := "malformed"
	for _, r := range []struct {
		err    error
		reason string
	}{
		{errKey, "key"},
		{record.ErrKey, "signer"},
		{name.ErrAuthority, "signer"},
		{name.ErrOther, "signer"},
		{network.ErrOther, "signer"},
		{identity.ErrSignature, "signature"},
		{network.ErrSignature, "signature"},
		{identity.ErrSize, "size"},
		{record.ErrLimit, "size"},
		{network.ErrSize, "size"},
		{record.ErrExpired, "expired"},
		{name.ErrExpired, "expired"},
		{errFuture, "future"},
	} {
		if errors.Is(err, r.err) {
			reason = r.reason
			break
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refused[reason]++
}

// refusals returns how many records were refused, by reason.
func (v *validator) refusals() map[string]uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.refused)
}

// compare orders two verified values of one key; positive when a is newer. Nodes,
// services and networks go by sequence, names by height and then by the later
// validity; of otherwise equal ones the greater bytes win. Zero means the same
// value.
func compare(a opened, aBytes []byte, b opened, bBytes []byte) int {
	return cmp.Or(
		cmp.Compare(a.order, b.order),
		cmp.Compare(a.then, b.then),
		cmp.Compare(string(aBytes), string(bBytes)),
	)
}

// clampSequence keeps a sequence number's order in an int64: those above the
// middle of the range are one, and the bytes decide between them.
func clampSequence(s uint64) int64 { return int64(min(s, 1<<63-1)) }
