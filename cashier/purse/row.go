package purse

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// stateVersion is the version of the file.
const stateVersion = 1

// maxState bounds the file: far more than any node has channels.
const maxState = 16 << 20

// ErrState is returned for a file that is none of this package's, or a newer one.
var ErrState = errors.New("purse: not a state file of this version")

// State is how far a channel has come. The numbers stand on disk: append only.
type State uint8

// The states of a channel.
const (
	// StateOpening channels were submitted; whether the ledger has them is not known yet.
	StateOpening State = 1
	// StateOpen channels pay.
	StateOpen State = 2
	// StateClosing channels were asked to close, and wait for the provider's grace.
	StateClosing State = 3
	// StateClosed channels have ended; what was left has come back to their account.
	StateClosed State = 4
	// StateSwept is a closed channel whose account was emptied.
	StateSwept State = 5
)

// String returns the state as a word.
func (s State) String() string {
	switch s {
	case StateOpening:
		return "opening"
	case StateOpen:
		return "open"
	case StateClosing:
		return "closing"
	case StateClosed, StateSwept:
		return "closed"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// row is one channel on disk. Rules for adding a field: a new number, and a new
// stateVersion if an older program must not overlook it.
type row struct {
	ID     voucher.ChannelID  `cbor:"1,keyasint"`
	Ask    voucher.Ask        `cbor:"2,keyasint"`
	Client identity.AccountID `cbor:"3,keyasint"`
	// Own says that the node's own account pays, not one of the provider's.
	Own     bool               `cbor:"4,keyasint,omitzero"`
	Nonce   voucher.TransferID `cbor:"5,keyasint"`
	State   State              `cbor:"6,keyasint"`
	Deposit voucher.Amount     `cbor:"7,keyasint"`
	// Promised is the newest voucher's amount, as last noted, Settled the ledger's.
	Promised voucher.Amount `cbor:"8,keyasint,omitzero"`
	Settled  voucher.Amount `cbor:"9,keyasint,omitzero"`
	Sequence uint64         `cbor:"10,keyasint,omitzero"`
	Bytes    uint64         `cbor:"11,keyasint,omitzero"`
	// Milliseconds, with Sequence and Bytes, are the settled voucher's.
	Milliseconds uint64 `cbor:"12,keyasint,omitzero"`
	// Times in Unix seconds. Used is when Promised last grew, Ended when the channel
	// was found closed, Deadline until when the provider may settle.
	Opened   int64 `cbor:"13,keyasint"`
	Expires  int64 `cbor:"14,keyasint"`
	Used     int64 `cbor:"15,keyasint,omitzero"`
	Ended    int64 `cbor:"16,keyasint,omitzero"`
	Deadline int64 `cbor:"17,keyasint,omitzero"`
	// Raise is a top-up on its way, Raised its ID.
	Raise  voucher.Amount     `cbor:"18,keyasint,omitzero"`
	Raised voucher.TransferID `cbor:"19,keyasint,omitzero"`
}

type stateFile struct {
	Version  uint64             `cbor:"1,keyasint"`
	Network  identity.NetworkID `cbor:"2,keyasint"`
	Book     []byte             `cbor:"3,keyasint"`
	Channels []row              `cbor:"4,keyasint,omitempty"`
}

func decodeState(b []byte, network identity.NetworkID, limits spending.Limits) (*spending.Book, []row, error) {
	var f stateFile
	if err := identity.Unmarshal(b, &f); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if f.Version != stateVersion || f.Network != network {
		return nil, nil, fmt.Errorf("%w: version %d of network %s", ErrState, f.Version, f.Network)
	}
	seen := map[voucher.ChannelID]bool{}
	for i := range f.Channels {
		r := &f.Channels[i]
		if seen[r.ID] || r.State < StateOpening || r.State > StateSwept || r.Ask.Validate() != nil {
			return nil, nil, fmt.Errorf("%w: channel %s", ErrState, r.ID.Short())
		}
		seen[r.ID] = true
	}
	book, err := spending.DecodeBook(f.Book, limits)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return book, f.Channels, nil
}
