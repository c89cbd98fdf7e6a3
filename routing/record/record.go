package record

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"scn.alt/scn/routing/identity"
)

// Domain separates the signatures over records from all others.
const Domain = "scn/record/v1"

// Limits of every record.
const (
	// MaxSize is the largest encoded record, envelope included, in bytes.
	MaxSize = 4 << 10
	// MaxGrants is the largest number of providers of one service.
	MaxGrants = 64
	// MaxTombstones is the largest number of revoked grants a record remembers.
	MaxTombstones = 64
	// MaxPorts is the largest number of ports of one service.
	MaxPorts = 32
	// MaxLocators is the largest number of addresses of one node.
	MaxLocators = 16
	// MaxRegion is the longest region label in bytes.
	MaxRegion = 32
	// ClockSkew is how far in the future a record's issue time may lie.
	ClockSkew = 10 * time.Minute
)

// Errors every record's Open function may return, besides those of
// identity.Open.
var (
	// ErrExpired is returned for a record past its NotAfter.
	ErrExpired = errors.New("record: expired")
	// ErrLimit is returned for a record beyond one of the limits.
	ErrLimit = errors.New("record: beyond a limit")
	// ErrKey is returned for a record signed by another key than it must be.
	ErrKey = errors.New("record: signed by another key")
	// ErrInvalid is returned for a record with a field that makes no sense.
	ErrInvalid = errors.New("record: invalid field")
)

// Compare orders two encoded records of one key: the higher sequence number is
// newer, and of equal ones the greater bytes. It is negative when a is older
// than b, and zero only when they are the same record.
func Compare(aSequence uint64, a []byte, bSequence uint64, b []byte) int {
	switch {
	case aSequence < bSequence:
		return -1
	case aSequence > bSequence:
		return 1
	}
	return bytes.Compare(a, b)
}

// NextSequence returns the sequence number of the record after last: the time in
// microseconds, or last+1 where that is greater. A node restored from an old
// backup thus goes on above what it had published since, and one whose clock
// went back goes on above what it remembers. It never runs backwards: after the
// greatest number there is no next one, and it is returned again.
func NextSequence(last uint64, now time.Time) uint64 {
	if last == math.MaxUint64 {
		return last
	}
	return max(last+1, uint64(max(0, now.UnixMicro())))
}

func open(typ string, signer [identity.Size]byte, b []byte, payload any) error {
	if len(b) > MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(b), MaxSize)
	}
	e, err := identity.Open(Domain, typ, b)
	if err != nil {
		return err
	}
	if e.Signer != signer {
		return ErrKey
	}
	if err := identity.Unmarshal(e.Payload, payload); err != nil {
		return fmt.Errorf("%w: %w", identity.ErrMalformed, err)
	}
	return nil
}

func seal(key identity.PrivateKey, typ string, payload any) ([]byte, error) {
	p, err := identity.Marshal(payload)
	if err != nil {
		return nil, err
	}
	b, err := key.Seal(Domain, typ, p)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(b), MaxSize)
	}
	return b, nil
}

func expired(notAfter int64, now time.Time) bool { return now.Unix() > notAfter }
