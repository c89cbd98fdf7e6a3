package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
)

// ledgerParameter is one rule of the ledger, as people see and set it.
type ledgerParameter struct {
	name, unit, about string
	// text says what holds; set reads what shall hold.
	text func(*cashier.Parameters) string
	set  func(*cashier.Parameters, string) error
}

// ledgerParameters are all of them, in the order in which they are shown.
func ledgerParameters() []ledgerParameter {
	return []ledgerParameter{
		number("max_names", "names", "how many names one account may have", func(p *cashier.Parameters) *uint32 { return &p.MaxNames }),
		credits("supply_cap", "the most credits there may be at once", func(p *cashier.Parameters) *voucher.Amount { return &p.SupplyCap }),
		credits("transfer_fee", "what a payment costs its payer besides (0: nothing)", func(p *cashier.Parameters) *voucher.Amount { return &p.TransferFee }),
		account("issuer", "the account that makes money (default: the founder's)", func(p *cashier.Parameters) *identity.AccountID { return &p.Issuer }),
		account("treasury", "the account that fees and rents go to (default: the founder's)", func(p *cashier.Parameters) *identity.AccountID { return &p.Treasury }),
		number("settlement_fee", "ppm", "which part of what a channel pays goes to the treasury", func(p *cashier.Parameters) *uint32 { return &p.SettlementFee }),
		credits("min_deposit", "the smallest deposit of a channel", func(p *cashier.Parameters) *voucher.Amount { return &p.MinDeposit }),
		duration("close_grace", "how long a provider has to settle when a client closes a channel alone", day, func(p *cashier.Parameters) *uint32 { return &p.CloseGrace }),
		number("vesting_share", "ppm", "which part of what a channel pays is paid out later", func(p *cashier.Parameters) *uint32 { return &p.VestingShare }),
		number("vesting_epochs", "epochs", "how much later (0: at once)", func(p *cashier.Parameters) *uint32 { return &p.VestingEpochs }),
		duration("epoch", "how long an epoch is: how far ahead a price is announced", 10*time.Minute, func(p *cashier.Parameters) *uint32 { return &p.EpochSeconds }),
		credits("rent_3", "what a name of 3 letters costs in a year (0: nothing)", func(p *cashier.Parameters) *voucher.Amount { return &p.RentThree }),
		credits("rent_4", "what a name of 4 letters costs in a year", func(p *cashier.Parameters) *voucher.Amount { return &p.RentFour }),
		credits("rent", "what a longer name costs in a year", func(p *cashier.Parameters) *voucher.Amount { return &p.Rent }),
		duration("name_grace", "how long a name is kept for its owner when it is paid for no more", 90*day, func(p *cashier.Parameters) *int64 { return &p.NameGrace }),
		duration("reveal_delay", "how long after it was asked for a name is registered, so that nobody can be quicker", 0, func(p *cashier.Parameters) *int64 { return &p.RevealDelay }),
		number("reveal_delay_blocks", "blocks", "the same in blocks, of which an idle ledger makes one an epoch (0: one; names are registered at once while both are 0)", func(p *cashier.Parameters) *uint64 { return &p.RevealDelayBlocks }),
		credits("commit_deposit", "what is put down while a name is asked for, and lost by who does not take it", func(p *cashier.Parameters) *voucher.Amount { return &p.CommitDeposit }),
		duration("unbonding", "how long a stake taken out takes to come back", 7*day, func(p *cashier.Parameters) *int64 { return &p.Unbonding }),
		duration("recovery_delay", "how long an account's key has to object to its recovery", 7*day, func(p *cashier.Parameters) *int64 { return &p.RecoveryDelay }),
		number("free_transactions", "transactions", "how many an account with money may make in an epoch without a fee, and one without money none (0: no limit)", func(p *cashier.Parameters) *uint32 { return &p.FreeTransactions }),
		credits("inspector_stake", "what an inspector has staked at least (0: nobody is inspected)", func(p *cashier.Parameters) *voucher.Amount { return &p.InspectorStake }),
		number("inspection_fee", "ppm", "which part of what a channel pays inspectors are paid from", func(p *cashier.Parameters) *uint32 { return &p.InspectionFee }),
		credits("row_pay", "what an inspector earns with one visit at most (0: 0.001)", func(p *cashier.Parameters) *voucher.Amount { return &p.RowPay }),
		account("seed_authority", "the account that posts for the seeds of epochs (default: the ledger's own)", func(p *cashier.Parameters) *identity.AccountID { return &p.SeedAuthority }),
		number("max_inspectors", "inspectors", "how many inspectors there are at most (0: 1024)", func(p *cashier.Parameters) *uint32 { return &p.MaxInspectors }),
		number("max_providers", "providers", "how many providers are inspected at most (0: 10000)", func(p *cashier.Parameters) *uint32 { return &p.MaxProviders }),
		number("drawn_share", "ppm", "which part of all visits inspectors show without being asked (0: 20000)", func(p *cashier.Parameters) *uint32 { return &p.DrawnShare }),
		number("punishment_epochs", "epochs", "for how long an inspector that was found out is not paid (0: 144)", func(p *cashier.Parameters) *uint32 { return &p.PunishmentEpochs }),
		number("plan_rows", "visits", "how many visits an inspector plans in an epoch at most (0: 50)", func(p *cashier.Parameters) *uint32 { return &p.PlanRows }),
		number("plan_checks", "visits", "how often a provider is to be visited in an epoch, by all together (0: 5)", func(p *cashier.Parameters) *uint32 { return &p.PlanChecks }),
		number("plan_floor", "ppm", "which part of all visits goes to all providers alike, whatever they earn (0: 500000)", func(p *cashier.Parameters) *uint32 { return &p.PlanFloor }),
		number("probe_window", "ms", "within which time before its latest start a visit begins (0: a twentieth of an epoch)", func(p *cashier.Parameters) *uint32 { return &p.ProbeWindow }),
		number("report_grace", "ms", "how long after an epoch reports are still committed to (0: a tenth of an epoch)", func(p *cashier.Parameters) *uint32 { return &p.ReportGrace }),
		number("probe_bytes", "bytes", "what a provider bears of visits in an hour at most (0: 256 MiB)", func(p *cashier.Parameters) *uint64 { return &p.ProbeBytes }),
		number("operator_cap", "ppm", "which share of the weight one operator has at most (0: 100000)", func(p *cashier.Parameters) *uint32 { return &p.OperatorCap }),
		number("alarm_operators", "operators", "how many operators it takes to suspend a provider (0: 3)", func(p *cashier.Parameters) *uint32 { return &p.AlarmOperators }),
		number("eligible_epochs", "epochs", "within which time an operator must have looked to have a say (0: 144)", func(p *cashier.Parameters) *uint32 { return &p.EligibleEpochs }),
		number("longest_suspension", "epochs", "how long a suspension lasts at most (0: 1008)", func(p *cashier.Parameters) *uint32 { return &p.LongestSuspension }),
		number("suspension_reset", "epochs", "after which time without an alarm a suspension is short again (0: 4320)", func(p *cashier.Parameters) *uint32 { return &p.SuspensionReset }),
		number("probation_checks", "checks", "how many checks end a probation (0: 100)", func(p *cashier.Parameters) *uint32 { return &p.ProbationChecks }),
		number("probation_epochs", "epochs", "how long a probation lasts at least (0: 1008)", func(p *cashier.Parameters) *uint32 { return &p.ProbationEpochs }),
		number("fixed_fail", "points", "what a failure of a provider in a fixed place adds to its sum (0: 11)", func(p *cashier.Parameters) *uint32 { return &p.FixedFail }),
		number("fixed_alarm", "points", "where that sum alarms (0: 50)", func(p *cashier.Parameters) *uint32 { return &p.FixedAlarm }),
		number("mobile_fail", "points", "what a failure of a provider that moves adds to its sum (0: 7)", func(p *cashier.Parameters) *uint32 { return &p.MobileFail }),
		number("mobile_alarm", "points", "where that sum alarms (0: 50)", func(p *cashier.Parameters) *uint32 { return &p.MobileAlarm }),
		number("clear_checks", "checks", "after how many good checks in a row an alarm ends (0: 20)", func(p *cashier.Parameters) *uint32 { return &p.ClearChecks }),
		number("expected_rate", "KiB/s", "what a provider is measured against that advertises no rate (0: 1024)", func(p *cashier.Parameters) *uint32 { return &p.ExpectedRate }),
	}
}

const day = 24 * time.Hour

func number[T uint32 | uint64](name, unit, about string, of func(*cashier.Parameters) *T) ledgerParameter {
	return ledgerParameter{
		name, unit, about,
		func(p *cashier.Parameters) string { return strconv.FormatUint(uint64(*of(p)), 10) },
		func(p *cashier.Parameters, text string) error {
			v, err := strconv.ParseUint(text, 10, 64)
			if err == nil && v != uint64(T(v)) {
				err = strconv.ErrRange
			}
			*of(p) = T(v)
			return err
		},
	}
}

func credits(name, about string, of func(*cashier.Parameters) *voucher.Amount) ledgerParameter {
	return ledgerParameter{
		name, "credits", about,
		func(p *cashier.Parameters) string { return of(p).String() },
		func(p *cashier.Parameters, text string) error { return of(p).UnmarshalText([]byte(text)) },
	}
}

func account(name, about string, of func(*cashier.Parameters) *identity.AccountID) ledgerParameter {
	return ledgerParameter{
		name, "account", about,
		func(p *cashier.Parameters) string { return of(p).String() },
		func(p *cashier.Parameters, text string) error { return of(p).UnmarshalText([]byte(text)) },
	}
}

// duration is a time in seconds on the ledger; 0 there means otherwise.
func duration[T int64 | uint32](name, about string, otherwise time.Duration, of func(*cashier.Parameters) *T) ledgerParameter {
	return ledgerParameter{
		name, "time", about,
		func(p *cashier.Parameters) string {
			if *of(p) == 0 {
				return durationText(otherwise)
			}
			return durationText(time.Duration(*of(p)) * time.Second)
		},
		func(p *cashier.Parameters, text string) error {
			d, err := parseDuration(text)
			seconds := int64(d / time.Second)
			if err == nil && seconds != int64(T(seconds)) {
				err = strconv.ErrRange
			}
			*of(p) = T(seconds)
			return err
		},
	}
}

// durationText is whole days where it is some, else as Go writes it.
func durationText(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// parseDuration reads days, like 7d, besides what Go reads; whole seconds of it count.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < 0 || d%time.Second != 0) {
		err = errors.New("want whole seconds, like 90s, 2h or 7d")
	}
	return d, err
}

// parametersOf shows the parameters of a ledger. Where an account is not set it is the
// founder's.
func parametersOf(p cashier.Parameters, founder identity.AccountID) []control.LedgerParameter {
	for _, id := range []*identity.AccountID{&p.Issuer, &p.Treasury} {
		if id.IsZero() {
			*id = founder
		}
	}
	all := ledgerParameters()
	out := make([]control.LedgerParameter, 0, len(all))
	for _, v := range all {
		out = append(out, control.LedgerParameter{Name: v.name, Value: v.text(&p), Unit: v.unit, About: v.about})
	}
	return out
}

// setParameters changes parameters by name. All faults are reported together.
func setParameters(p *cashier.Parameters, set map[string]string) error {
	all := ledgerParameters()
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(set)) {
		i := slices.IndexFunc(all, func(v ledgerParameter) bool { return v.name == key })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s: unknown parameter; \"scn network params\" shows those there are", key))
			continue
		}
		if err := all[i].set(p, set[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if len(set) == 0 {
		errs = append(errs, errors.New("nothing to set"))
	}
	if err := errors.Join(append(errs, p.Validate())...); err != nil {
		return fmt.Errorf("%w: %w", node.ErrRequest, err)
	}
	return nil
}
