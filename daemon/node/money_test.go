package node

import (
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

func FuzzParseGenesis(f *testing.F) {
	id := identity.NewKeyFromSeed([32]byte{1}).Account()
	f.Add(id.String() + "=1.5")
	f.Add(id.String() + "=1.5 " + id.String() + "=2")
	f.Add("nobody=1")
	f.Add("=")
	f.Fuzz(func(t *testing.T, text string) {
		balances, err := parseGenesis(text)
		if err != nil && balances != nil {
			t.Errorf("%q: %v beside an error", text, balances)
		}
		for _, b := range balances {
			again, err := parseGenesis(b.Account.String() + "=" + b.Amount.String())
			if err != nil || len(again) != 1 || again[0] != b {
				t.Errorf("%v became %v, %v", b, again, err)
			}
		}
	})
}

func TestParseGenesis(t *testing.T) {
	a, b := identity.NewKeyFromSeed([32]byte{1}).Account(), identity.NewKeyFromSeed([32]byte{2}).Account()
	got, err := parseGenesis(" " + a.String() + "=1.5  " + b.String() + "=1000 ")
	if err != nil || len(got) != 2 || got[0].Account != a || got[0].Amount != 1_500_000 || got[1].Amount != 1000*voucher.Credit {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseGenesis(""); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, text := range []string{"x", a.String(), a.String() + "=", a.String() + "=-1", a.String() + "= 1", a.String()[1:] + "=1"} {
		if _, err := parseGenesis(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
