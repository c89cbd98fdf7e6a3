package node

import (
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
)

// Names that cost something are renewed late, others early, and those without a lease
// never.
func TestWhenNamesAreRenewed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	free := cashier.DefaultParameters()
	priced := free
	priced.RentThree = voucher.Credit
	const day = 24 * time.Hour
	for _, tt := range []struct {
		what string
		name cashier.OwnedName
		left time.Duration
		p    cashier.Parameters
		want bool
	}{
		{"free, fresh", cashier.OwnedName{Name: "abc"}, 3 * 365 * day, free, false},
		{"free, half over", cashier.OwnedName{Name: "abc"}, 540 * day, free, true},
		{"priced, half over", cashier.OwnedName{Name: "abc"}, 540 * day, priced, false},
		{"priced, two weeks left", cashier.OwnedName{Name: "abc"}, 14*day - time.Second, priced, true},
		{"priced, expired", cashier.OwnedName{Name: "abc"}, -40 * day, priced, true},
		{"of a length that is free", cashier.OwnedName{Name: "abcde"}, 540 * day, priced, true},
	} {
		tt.name.Lease = now.Add(tt.left).Unix()
		if got := renewable(tt.name, tt.p, now); got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
	if renewable(cashier.OwnedName{Name: "abc"}, free, now) {
		t.Error("a name without a lease is renewed")
	}
}
