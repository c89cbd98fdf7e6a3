package meter

import (
	"context"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Channel is a payment channel as the ledger has it.
type Channel struct {
	ID voucher.ChannelID
	// Client pays.
	Client identity.AccountID
	// Ask is what the channel was opened against: who provides what, whom to pay, the
	// price and its terms.
	Ask voucher.Ask
	// SessionKey signs the channel's vouchers.
	SessionKey voucher.SessionKey
	// Deposit is all that the channel can pay, Settled what it has paid on the ledger.
	Deposit, Settled voucher.Amount
	// Sequence, Bytes and Milliseconds are those of the voucher settled last.
	Sequence, Bytes, Milliseconds uint64
	// Expires is when the deposit goes back to the client, in Unix seconds; 0: never.
	Expires int64
	// Open is false once the channel is closing or closed.
	Open bool
}

// Held is a channel that this node pays from, with the secret half of its session key.
type Held struct {
	Channel
	Key identity.PrivateKey
}

// Channels are the payment channels of this node at the ledger, as the payer's wallet
// and the payee's till see them.
type Channels interface {
	// Permit says whether a session at this price may be paid for: nil, or an error
	// that is ErrPrice, ErrBudget or ErrLedgerUnreachable. It must not wait.
	Permit(ask voucher.Ask) error
	// Held lists the open channels of earlier runs. It is asked once, by Open.
	Held() []Held
	// Open opens a new channel against an ask. It is asked for one service at one node
	// at a time.
	Open(ctx context.Context, ask voucher.Ask) (Held, error)
	// TopUp raises the deposit of a channel to at least atLeast.
	TopUp(ctx context.Context, id voucher.ChannelID, atLeast voucher.Amount) (Channel, error)
	// State asks the ledger for a channel.
	State(ctx context.Context, id voucher.ChannelID) (Channel, error)
}

// Asks tells what a service costs at this node. It must not wait.
type Asks interface {
	// Ask returns the price in force; false means the service is free.
	Ask(service identity.ServiceID) (voucher.Ask, bool)
}

// Usage gets a record of each session, at both ends, at its end and every
// Config.UsageInterval before. Record must not wait.
type Usage interface{ Record(UsageRecord) }

// UsageRecord says what one session carried in one interval. Nothing in it is
// cumulative.
type UsageRecord struct {
	Nonce   [32]byte
	Peer    identity.NodeID
	Service identity.ServiceID
	Port    uint16
	// Protocol is 6 for streams and 17 for datagrams.
	Protocol uint8
	// Initiator says that this node dialled, and so pays if anybody does.
	Initiator bool
	// Channel is zero for what is free.
	Channel voucher.ChannelID
	// Sent and Received are bytes, by this node.
	Sent, Received uint64
	// Milliseconds is how long the interval was.
	Milliseconds uint64
	// Amount is what the channel's price grew by: all records of a channel together
	// make the price of all its bytes and time, as this node counted them.
	Amount     voucher.Amount
	Start, End time.Time
	// Final marks the last record of the session.
	Final bool
}
