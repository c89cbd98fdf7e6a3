package daemon

import (
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/cashier/market"
	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon/node"
)

// PaySettings say what this node may pay for by itself, and whom it prefers. Amounts
// are credits, as text: "1.5". An empty text is no limit.
type PaySettings struct {
	// MaxPricePerGiB and MaxPricePerHour are the dearest prices accepted. Default any.
	MaxPricePerGiB  string `toml:"max_price_per_gib" help:"most credits to pay for a GiB; empty for any" reload:"yes"`
	MaxPricePerHour string `toml:"max_price_per_hour" help:"most credits to pay for an hour; empty for any" reload:"yes"`
	// BudgetPerDay is what may be spent in a day (UTC), for all services together.
	// Default 0: nothing is paid before its owner says how much.
	BudgetPerDay string `toml:"budget_per_day" help:"most credits to spend in a day (UTC); 0 pays for nothing, empty for no limit" reload:"yes"`
	// BudgetPerService is what one service may cost in a day. Default no limit.
	BudgetPerService string `toml:"budget_per_service" help:"most credits one service may cost in a day; empty for no limit" reload:"yes"`
	// Deposit is what a new channel to a provider holds. Default 1.
	Deposit string `toml:"deposit" help:"credits to put into a new channel to a provider; what is not used comes back" reload:"yes"`
	// Policy chooses among providers: weighted, cheapest, fastest, score or score-per-price. Default weighted.
	Policy string `toml:"policy" help:"which provider to prefer: weighted, cheapest, fastest, score or score-per-price" reload:"yes"`
	// OneAccount pays every provider from the node's own account. Default false: from
	// a fresh account for each provider.
	OneAccount bool `toml:"one_account" help:"pay all providers from this node's own account, so that they can tell it is the same"`
	// UsageDays is how long records of what sessions used are kept. Default 120.
	UsageDays int64 `toml:"usage_days" help:"days to keep the records of what sessions used"`
}

// config is the node's configuration of paying. All faults are reported together.
func (s PaySettings) config() (node.PayConfig, error) {
	var errs []error
	amount := func(key, text string, empty voucher.Amount) voucher.Amount {
		if text == "" {
			return empty
		}
		a, err := voucher.ParseAmount(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("pay.%s: %w", key, err))
		}
		return a
	}
	c := node.PayConfig{
		Limits: spending.Limits{
			MaxPerGiB:  amount("max_price_per_gib", s.MaxPricePerGiB, spending.Unlimited),
			MaxPerHour: amount("max_price_per_hour", s.MaxPricePerHour, spending.Unlimited),
			PerDay:     amount("budget_per_day", s.BudgetPerDay, spending.Unlimited),
			PerService: amount("budget_per_service", s.BudgetPerService, spending.Unlimited),
			Deposit:    amount("deposit", s.Deposit, 0),
		},
		OneAccount: s.OneAccount,
		Retention:  time.Duration(s.UsageDays) * 24 * time.Hour,
	}
	if len(errs) == 0 && c.Limits.Validate() != nil {
		errs = append(errs, errors.New("pay.deposit: a deposit of 0 pays for nothing"))
	}
	var err error
	if c.Policy, err = market.ParsePolicy(s.Policy); err != nil {
		errs = append(errs, fmt.Errorf("pay.policy: %w", err))
	}
	if s.UsageDays < 1 || s.UsageDays > 3650 {
		errs = append(errs, fmt.Errorf("pay.usage_days: %d is not between 1 and 3650", s.UsageDays))
	}
	return c, errors.Join(errs...)
}

func defaultPay() PaySettings {
	return PaySettings{BudgetPerDay: "0", Deposit: "1", Policy: market.Weighted.String(), UsageDays: 120}
}

// reloadPay takes over what may change while the daemon runs.
func (d *daemon) reloadPay(s PaySettings) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	return d.node.SetPay(c)
}
