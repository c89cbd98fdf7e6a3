package usage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Record is what a session used in an interval, as one of its ends saw it. Rules for
// adding a field: a new number, absent where it is zero.
type Record struct {
	// Nonce names the session.
	Nonce   [32]byte           `cbor:"1,keyasint"`
	Peer    identity.NodeID    `cbor:"2,keyasint"`
	Service identity.ServiceID `cbor:"3,keyasint"`
	Port    uint16             `cbor:"4,keyasint,omitzero"`
	// Protocol is record.TCP or record.UDP.
	Protocol uint8 `cbor:"5,keyasint,omitzero"`
	// Payer says that this node is the client.
	Payer bool `cbor:"6,keyasint,omitzero"`
	// Channel pays for it; zero where the session is free.
	Channel voucher.ChannelID `cbor:"7,keyasint,omitzero"`
	// Sent and Received are the bytes this node sent and received, Milliseconds the
	// time, Amount what they cost, all of them in this interval.
	Sent         uint64         `cbor:"8,keyasint,omitzero"`
	Received     uint64         `cbor:"9,keyasint,omitzero"`
	Milliseconds uint64         `cbor:"10,keyasint,omitzero"`
	Amount       voucher.Amount `cbor:"11,keyasint,omitzero"`
	// Start and End of the interval, in Unix milliseconds.
	Start int64 `cbor:"12,keyasint"`
	End   int64 `cbor:"13,keyasint"`
	// Final says that the session has ended.
	Final bool `cbor:"14,keyasint,omitzero"`
}

// ErrRecord is returned for a row that is no record.
var ErrRecord = errors.New("usage: not a usage record")

const recordPrefix = "r/"

// keySize is the length of a record's key.
const keySize = len(recordPrefix) + 8 + 32 + 8

func (r *Record) key(sequence uint64) []byte {
	k := append(make([]byte, 0, keySize), recordPrefix...)
	k = binary.BigEndian.AppendUint64(k, uint64(max(r.Start, 0)))
	k = append(k, r.Nonce[:]...)
	return binary.BigEndian.AppendUint64(k, sequence)
}

// timeKey is the least key of what began at or after t.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte(recordPrefix), uint64(max(t.UnixMilli(), 0)))
}

func decodeRecord(b []byte) (r Record, err error) {
	if err := identity.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if r.Start < 0 || r.End < r.Start {
		return Record{}, fmt.Errorf("%w: it ends before it starts", ErrRecord)
	}
	return r, nil
}
