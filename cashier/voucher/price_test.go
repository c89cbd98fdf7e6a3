package voucher

import (
	"math"
	"math/big"
	"testing"
)

func TestPriceCost(t *testing.T) {
	for _, tt := range []struct {
		name                string
		price               Price
		bytes, milliseconds uint64
		want                Amount
		fits                bool
	}{
		{"free", Price{}, math.MaxUint64, math.MaxUint64, 0, true},
		{"nothing delivered", Price{Credit, Credit}, 0, 0, 0, true},
		{"one byte is rounded up", Price{PerGiB: Credit}, 1, 0, 1, true},
		{"one micro-credit is 1073.7 bytes", Price{PerGiB: Credit}, 1073, 0, 1, true},
		{"the next begins with the byte after", Price{PerGiB: Credit}, 1074, 0, 2, true},
		{"a GiB", Price{PerGiB: Credit}, GiB, 0, Credit, true},
		{"a GiB and a byte", Price{PerGiB: Credit}, GiB + 1, 0, Credit + 1, true},
		{"an hour", Price{PerHour: 2 * Credit}, 0, 3_600_000, 2 * Credit, true},
		{"one millisecond", Price{PerHour: Credit}, 0, 1, 1, true},
		{"two halves make one", Price{1, 1}, GiB / 2, 1_800_000, 1, true},
		{"two halves and a bit make two", Price{1, 1}, GiB / 2, 1_800_001, 2, true},
		{"rounded once, not twice", Price{1, 1}, 1, 1, 1, true},
		{"200 MB at half a credit per GiB", Price{PerGiB: 500_000}, 200_000_000, 0, 93133, true},
		{"largest that fits", Price{PerGiB: MaxAmount}, GiB, 0, MaxAmount, true},
		{"a byte more does not", Price{PerGiB: MaxAmount}, GiB + 1, 0, 0, false},
		{"largest product of bytes", Price{PerGiB: MaxAmount}, math.MaxUint64, 0, 0, false},
		{"largest product of time", Price{PerHour: MaxAmount}, 0, math.MaxUint64, 0, false},
		{"largest hour", Price{PerHour: MaxAmount}, 0, 3_600_000, MaxAmount, true},
		{"sum overflows by its whole parts", Price{MaxAmount, MaxAmount}, GiB, 3_600_000, 0, false},
		{"sum overflows by rounding up", Price{MaxAmount, 1}, GiB, 1, 0, false},
	} {
		got, fits := tt.price.Cost(tt.bytes, tt.milliseconds)
		if fits != tt.fits || fits && got != tt.want {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, got, fits, tt.want, tt.fits)
		}
	}
}

func TestPriceString(t *testing.T) {
	for want, p := range map[string]Price{
		"free": {}, "0.5 per GiB": {PerGiB: 500_000}, "1 per hour": {PerHour: Credit},
		"0.5 per GiB, 1 per hour": {500_000, Credit},
	} {
		if p.String() != want {
			t.Errorf("%q, want %q", p, want)
		}
	}
}

// exactCost is Price.Cost with numbers of any size.
func exactCost(p Price, bytes, milliseconds uint64) *big.Int {
	n := func(v uint64) *big.Int { return new(big.Int).SetUint64(v) }
	a := new(big.Int).Mul(n(bytes), n(uint64(p.PerGiB)))
	a.Mul(a, n(3_600_000))
	b := new(big.Int).Mul(n(milliseconds), n(uint64(p.PerHour)))
	b.Mul(b, n(GiB))
	d := new(big.Int).Mul(n(3_600_000), n(GiB))
	a.Add(a, b).Add(a, d).Sub(a, big.NewInt(1))
	return a.Div(a, d)
}

func FuzzPriceCost(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint64(1), uint64(1), uint64(1), uint64(1))
	f.Add(uint64(Credit), uint64(Credit), uint64(GiB-1), uint64(3_599_999), uint64(1), uint64(1))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(0), uint64(0))
	f.Add(uint64(math.MaxUint64), uint64(1), uint64(GiB), uint64(1), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, perGiB, perHour, bytes, milliseconds, moreBytes, moreTime uint64) {
		p := Price{Amount(perGiB), Amount(perHour)}
		got, fits := p.Cost(bytes, milliseconds)
		want := exactCost(p, bytes, milliseconds)
		if fits != want.IsUint64() || fits && uint64(got) != want.Uint64() {
			t.Fatalf("%v of %d bytes, %d ms: %d, %v, want %s", p, bytes, milliseconds, got, fits, want)
		}
		if bytes+moreBytes < bytes || milliseconds+moreTime < milliseconds {
			return
		}
		if more, ok := p.Cost(bytes+moreBytes, milliseconds+moreTime); ok && (!fits || more < got) {
			t.Fatalf("%v: more costs %d, less %d, %v", p, more, got, fits)
		}
	})
}
