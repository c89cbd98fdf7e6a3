package daemon

import (
	"errors"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
)

// Every parameter comes back as it was set, and what is shown can be set.
func TestLedgerParameters(t *testing.T) {
	founder := identity.NewKeyFromSeed([32]byte{1}).Account()
	shown := parametersOf(cashier.DefaultParameters(), founder)
	set := map[string]string{}
	for _, p := range shown {
		if p.Value == "" || p.Unit == "" || p.About == "" || set[p.Name] != "" {
			t.Errorf("%+v", p)
		}
		set[p.Name] = p.Value
	}
	p := cashier.DefaultParameters()
	if err := setParameters(&p, set); err != nil {
		t.Fatal(err)
	}
	again := parametersOf(p, founder)
	for i := range shown {
		if again[i] != shown[i] {
			t.Errorf("%+v became %+v", shown[i], again[i])
		}
	}
	values := map[string]string{
		"rent_3": "100", "rent_4": "10.5", "rent": "0.000001", "name_grace": "30d", "reveal_delay": "1m30s", "reveal_delay_blocks": "3",
		"settlement_fee": "20000", "min_deposit": "0.25", "close_grace": "12h0m0s", "vesting_share": "500000", "vesting_epochs": "3", "epoch": "5m0s",
		"commit_deposit": "1", "unbonding": "36h0m0s", "recovery_delay": "14d", "max_names": "5",
	}
	if err := setParameters(&p, values); err != nil {
		t.Fatal(err)
	}
	for _, got := range parametersOf(p, founder) {
		if want, ok := values[got.Name]; ok && got.Value != want {
			t.Errorf("%s: %s, want %s", got.Name, got.Value, want)
		}
	}
	if p.NameGrace != 30*24*3600 || p.RevealDelay != 90 || p.RentFour != 10_500_000 {
		t.Errorf("%+v", p)
	}
	for key, value := range map[string]string{
		"settlement_fee": "500001", "close_grace": "60000d", "vesting_share": "1000001", "epoch": "1s", "min_deposit": "a",
		"max_names": "4294967297", "rent": "-1", "reveal_delay": "500ms", "unbonding": "1s", "name_grace": "-1d", "nonsense": "1", "issuer": "nobody", "reveal_delay_blocks": "many",
	} {
		if err := setParameters(&p, map[string]string{key: value}); !errors.Is(err, node.ErrRequest) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	if err := setParameters(&p, nil); !errors.Is(err, node.ErrRequest) {
		t.Errorf("nothing: %v", err)
	}
}

// What is read is whole seconds, never negative, and comes back as it is shown.
func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"", "d", "0d", "7d", "65535d", "65536d", "-1d", "90s", "36h0m0s", "500ms", "1.5h", "9999999h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text)
		if err != nil {
			return
		}
		if d < 0 || d%time.Second != 0 {
			t.Errorf("%q is %s", text, d)
		}
		if again, err := parseDuration(durationText(d)); d < 65536*day && (err != nil || again != d) {
			t.Errorf("%q is %s, shown as %q: %s, %v", text, d, durationText(d), again, err)
		}
	})
}
