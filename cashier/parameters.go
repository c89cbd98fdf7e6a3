package cashier

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Parameters are the rules of a ledger its founder sets: at its first block, and
// later by SetParameters. They are part of the state, so every replay follows the
// same rules at the same height.
//
// Rules for adding a field: next integer key, omitzero, and the zero value means
// what was true before the field existed.
type Parameters struct {
	// MaxNames is how many names one account may hold, offers not counted.
	// Default 64; 1 to 1,000,000. Fewer would stop an honest operator, more would
	// let one account fill the books.
	MaxNames uint32 `cbor:"1,keyasint"`
	// SupplyCap is the most money there may be at once. 0: none may be issued.
	// Default 1,000,000,000 credits.
	SupplyCap voucher.Amount `cbor:"2,keyasint,omitzero"`
	// TransferFee is what a transfer costs its signer besides, paid to the treasury.
	// Default 0, at most one credit.
	TransferFee voucher.Amount `cbor:"3,keyasint,omitzero"`
	// Issuer is the account that issues and redeems money, Treasury the one fees go
	// to. Zero: the network's own key.
	Issuer   identity.AccountID `cbor:"4,keyasint,omitzero"`
	Treasury identity.AccountID `cbor:"5,keyasint,omitzero"`

	// SettlementFee is which part of what a channel settles goes to the treasury, in
	// parts per million. Default 0, at most half.
	SettlementFee uint32 `cbor:"10,keyasint,omitzero"`
	// CloseGrace is how long a provider has to settle once a client wants to close, in
	// seconds. 0 is 24 hours; at most 30 days.
	CloseGrace uint32 `cbor:"11,keyasint,omitzero"`
	// VestingShare is which part of a settlement, the fee taken off, is paid out when
	// VestingEpochs whole epochs have passed, in parts per million. Default 0; at most
	// all, and 10,000 epochs.
	VestingShare  uint32 `cbor:"12,keyasint,omitzero"`
	VestingEpochs uint32 `cbor:"13,keyasint,omitzero"`
	// EpochSeconds is how long an epoch is. 0 is 600; at least 2, at most a day.
	EpochSeconds uint32 `cbor:"14,keyasint,omitzero"`
	// MinDeposit is the smallest deposit of a channel. Default 0.
	MinDeposit voucher.Amount `cbor:"15,keyasint,omitzero"`

	// RentThree, RentFour and Rent are what a name of three letters, of four, and of
	// five or more costs its owner in a year, paid to the treasury. Default 0, at most
	// a million credits.
	RentThree voucher.Amount `cbor:"20,keyasint,omitzero"`
	RentFour  voucher.Amount `cbor:"21,keyasint,omitzero"`
	Rent      voucher.Amount `cbor:"22,keyasint,omitzero"`
	// RevealDelay, in seconds, and RevealDelayBlocks are how old a commit must be to be
	// revealed. While both are 0 that is one block, and Register works as well; once
	// one is set, whoever wants a name commits first. At most 12 hours and 10,000
	// blocks: a commit lapses after a day.
	RevealDelay       int64  `cbor:"23,keyasint,omitzero"`
	RevealDelayBlocks uint64 `cbor:"24,keyasint,omitzero"`
	// CommitDeposit is put down with a commit and given back when it is revealed; a
	// commit that lapses loses it to the treasury. Default 0, at most 1000 credits.
	CommitDeposit voucher.Amount `cbor:"25,keyasint,omitzero"`
	// Unbonding is how long a stake taken out stays where it can be judged, in seconds.
	// 0 is 7 days; at least 1 hour, at most 90 days.
	Unbonding int64 `cbor:"26,keyasint,omitzero"`
	// RecoveryDelay is how long an account's key has to object to a recovery, in
	// seconds. 0 is 7 days; at least 1 hour, at most 90 days.
	RecoveryDelay int64 `cbor:"27,keyasint,omitzero"`
	// NameGrace is how long a name whose lease has ended is kept for its owner, in
	// seconds. 0 is 90 days; at least 1 day, at most 1 year.
	NameGrace int64 `cbor:"28,keyasint,omitzero"`

	// FreeTransactions is how many transactions an account may make in an epoch
	// without paying a fee; an account without money then none. It is kept by whoever
	// takes transactions, and no rule for blocks. Default 0: as many as it likes.
	FreeTransactions uint32 `cbor:"30,keyasint,omitzero"`

	// SeedAuthority is the account that posts for the seeds of epochs. Zero: the
	// ledger's own.
	SeedAuthority identity.AccountID `cbor:"40,keyasint,omitzero"`
	// InspectorStake is what an inspector has staked at least. 0, the default: there
	// are no inspectors, and nobody is inspected.
	InspectorStake voucher.Amount `cbor:"41,keyasint,omitzero"`
	// InspectionFee is which part of what a channel settles inspectors are paid from, in
	// parts per million. Default 0, at most half.
	InspectionFee uint32 `cbor:"42,keyasint,omitzero"`
	// MaxInspectors and MaxProviders bound the roster. 0 is 1024 and 10,000; at most 4096
	// and 100,000.
	MaxInspectors uint32 `cbor:"43,keyasint,omitzero"`
	MaxProviders  uint32 `cbor:"44,keyasint,omitzero"`
	// DrawnShare is which part of all rows is to be shown without anybody asking, in parts
	// per million. 0 is 20,000.
	DrawnShare uint32 `cbor:"45,keyasint,omitzero"`
	// PunishmentEpochs is for how long an inspector that was found out is not paid. 0 is 144.
	PunishmentEpochs uint32 `cbor:"46,keyasint,omitzero"`
	// The fields below are those of evidence.Rules, which tells what 0 means.
	PlanRows          uint32         `cbor:"47,keyasint,omitzero"` // Rows
	PlanChecks        uint32         `cbor:"48,keyasint,omitzero"` // Checks
	PlanFloor         uint32         `cbor:"49,keyasint,omitzero"` // Floor
	ReportGrace       uint32         `cbor:"50,keyasint,omitzero"` // Grace
	ProbeBytes        uint64         `cbor:"51,keyasint,omitzero"`
	RowPay            voucher.Amount `cbor:"52,keyasint,omitzero"`
	OperatorCap       uint32         `cbor:"53,keyasint,omitzero"` // Cap
	AlarmOperators    uint32         `cbor:"54,keyasint,omitzero"` // Operators
	EligibleEpochs    uint32         `cbor:"55,keyasint,omitzero"` // Eligible
	LongestSuspension uint32         `cbor:"56,keyasint,omitzero"` // Suspension
	SuspensionReset   uint32         `cbor:"57,keyasint,omitzero"` // Reset
	ProbationChecks   uint32         `cbor:"58,keyasint,omitzero"`
	ProbationEpochs   uint32         `cbor:"59,keyasint,omitzero"`
	ProbeWindow       uint32         `cbor:"60,keyasint,omitzero"` // Window
	FixedFail         uint32         `cbor:"61,keyasint,omitzero"`
	FixedAlarm        uint32         `cbor:"62,keyasint,omitzero"`
	MobileFail        uint32         `cbor:"63,keyasint,omitzero"`
	MobileAlarm       uint32         `cbor:"64,keyasint,omitzero"`
	ClearChecks       uint32         `cbor:"65,keyasint,omitzero"` // Clear
	ExpectedRate      uint32         `cbor:"66,keyasint,omitzero"` // Rate
}

// DefaultParameters returns the parameters of a new ledger. Nothing costs
// anything, so a newcomer needs no money.
func DefaultParameters() Parameters {
	return Parameters{MaxNames: 64, SupplyCap: 1_000_000_000 * voucher.Credit}
}

// Validate reports all that is wrong with the parameters.
func (p Parameters) Validate() error {
	var errs []error
	if p.MaxNames < 1 || p.MaxNames > 1_000_000 {
		errs = append(errs, fmt.Errorf("cashier: MaxNames %d, want 1 to 1000000", p.MaxNames))
	}
	if p.TransferFee > voucher.Credit {
		errs = append(errs, fmt.Errorf("cashier: TransferFee %s, want at most %s", p.TransferFee, voucher.Credit))
	}
	return errors.Join(append(errs, p.validateChannels(), p.validateNames(), p.validateDelays(), p.validateInspection())...)
}

// The bounds of the parameters of channels.
const (
	maxSettlementFee = million / 2
	maxCloseGrace    = 30 * 24 * 60 * 60
	maxVestingEpochs = 10_000
	minEpoch         = 2
	maxEpoch         = 24 * 60 * 60
)

func (p Parameters) validateChannels() error {
	var errs []error
	if p.SettlementFee > maxSettlementFee {
		errs = append(errs, fmt.Errorf("cashier: SettlementFee %d ppm, want at most %d", p.SettlementFee, maxSettlementFee))
	}
	if p.CloseGrace > maxCloseGrace {
		errs = append(errs, fmt.Errorf("cashier: CloseGrace %d s, want at most %d", p.CloseGrace, maxCloseGrace))
	}
	if p.VestingShare > million {
		errs = append(errs, fmt.Errorf("cashier: VestingShare %d ppm, want at most %d", p.VestingShare, million))
	}
	if p.VestingEpochs > maxVestingEpochs {
		errs = append(errs, fmt.Errorf("cashier: VestingEpochs %d, want at most %d", p.VestingEpochs, maxVestingEpochs))
	}
	if p.EpochSeconds != 0 && (p.EpochSeconds < minEpoch || p.EpochSeconds > maxEpoch) {
		errs = append(errs, fmt.Errorf("cashier: EpochSeconds %d, want %d to %d", p.EpochSeconds, minEpoch, maxEpoch))
	}
	return errors.Join(errs...)
}

// closeGrace returns how long a provider has to settle a channel, in seconds.
func (p Parameters) closeGrace() int64 {
	if p.CloseGrace == 0 {
		return 24 * 60 * 60
	}
	return int64(p.CloseGrace)
}

// rules returns the first version of the rules that knows all that is set.
func (p Parameters) rules() uint64 {
	switch p {
	case Parameters{MaxNames: p.MaxNames}:
		return rulesNames
	case Parameters{MaxNames: p.MaxNames, SupplyCap: p.SupplyCap, TransferFee: p.TransferFee, Issuer: p.Issuer, Treasury: p.Treasury}:
		return rulesMoney
	}
	return rulesMarket
}

func (p Parameters) issuer(network identity.NetworkID) identity.AccountID {
	if p.Issuer.IsZero() {
		return identity.AccountID(network)
	}
	return p.Issuer
}

func (p Parameters) treasury(network identity.NetworkID) identity.AccountID {
	if p.Treasury.IsZero() {
		return identity.AccountID(network)
	}
	return p.Treasury
}
