package meter

import (
	"errors"
	"net"
	"slices"
	"syscall"
)

// failure is an error of this package that answers errors.Is for the errors of the
// standard library it corresponds to: that is how other layers tell it on.
type failure struct {
	text string
	is   []error
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Is(target error) bool { return slices.Contains(f.is, target) }

// The errors of metered sessions.
var (
	// ErrPrice means that the provider asks more than the settings allow. The
	// application sees a refused connection.
	ErrPrice error = &failure{"meter: the price is above the limit in the settings", []error{syscall.ECONNREFUSED}}
	// ErrBudget means that the budget in the settings is spent. The application sees
	// a refused connection.
	ErrBudget error = &failure{"meter: the budget in the settings is spent", []error{syscall.ECONNREFUSED}}
	// ErrLedgerUnreachable means that a channel would have to be opened or topped up
	// and the ledger does not answer; it is syscall.EAGAIN.
	ErrLedgerUnreachable error = &failure{"meter: the ledger cannot be reached", []error{syscall.EAGAIN}}
	// ErrUnpaid means, at the provider, that the client did not pay in time; it is
	// syscall.EACCES.
	ErrUnpaid error = &failure{"meter: the client does not pay", []error{syscall.EACCES}}
	// ErrChannel means that the provider does not take the channel and no other could
	// be had; it is syscall.EACCES.
	ErrChannel error = &failure{"meter: the provider does not take the channel", []error{syscall.EACCES}}
	// ErrClosed is returned after Close; it is net.ErrClosed.
	ErrClosed error = &failure{"meter: closed", []error{net.ErrClosed}}
)

// What a payee finds wrong with a voucher. The state is as it was before.
var (
	// ErrOtherChannel is returned for a voucher of another channel.
	ErrOtherChannel = errors.New("meter: voucher for another channel")
	// ErrOtherConnection is returned for a voucher bound to no session of the channel.
	ErrOtherConnection = errors.New("meter: voucher for another connection")
	// ErrSignature is returned for a voucher the session key did not sign.
	ErrSignature = errors.New("meter: the voucher's signature is wrong")
	// ErrStale is returned for a voucher that is not newer than the newest. It is no
	// fault of anybody's: datagrams overtake one another.
	ErrStale = errors.New("meter: an older voucher")
	// ErrFalling is returned for a newer voucher that pays for less.
	ErrFalling = errors.New("meter: a newer voucher that pays less")
	// ErrUnderpaid is returned for a voucher whose amount is below the price of what
	// it says it pays for.
	ErrUnderpaid = errors.New("meter: the voucher pays less than the price")
	// ErrDeposit is returned for a voucher beyond the deposit.
	ErrDeposit = errors.New("meter: the voucher is beyond the deposit")
	// ErrExpired is returned where a channel is closing or about to expire.
	ErrExpired = errors.New("meter: the channel is closing, or about to expire")
)
