package evidence

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Reference: research, proof-and-ledger §1.3, the worked Wilson intervals.
func TestWilsonWorkedValues(t *testing.T) {
	for _, c := range []struct {
		failures, n uint32
		low, high   float64 // failure rates in percent, as published
	}{
		{0, 20, 0, 16.1},
		{0, 100, 0, 3.7},
		{5, 100, 2.2, 11.2},
		{0, 500, 0, 0.8},
		{25, 500, 3.4, 7.3},
	} {
		low := 100 - float64(WilsonUpper(c.n-c.failures, c.n, TwoSided95))/1e4
		high := 100 - float64(WilsonLower(c.n-c.failures, c.n, TwoSided95))/1e4
		if math.Abs(low-c.low) > 0.051 || math.Abs(high-c.high) > 0.051 {
			t.Errorf("%d of %d: %.3f to %.3f %%, want %.1f to %.1f", c.failures, c.n, low, high, c.low, c.high)
		}
	}
	if WilsonLower(0, 0, TwoSided95) != 0 || WilsonUpper(0, 0, TwoSided95) != million {
		t.Error("no check at all says something")
	}
}

func TestWilsonAgainstFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		n := 1 + r.Uint32N(1<<r.Uint32N(17))
		s, z := r.Uint32N(n+1), Confidence(r.Uint32N(1000))
		zf, nf, sf := float64(z)/100, float64(n), float64(s)
		root := zf * math.Sqrt(4*sf*(nf-sf)/nf+zf*zf)
		low := (2*sf + zf*zf - root) / (2 * (nf + zf*zf)) * 1e6
		high := (2*sf + zf*zf + root) / (2 * (nf + zf*zf)) * 1e6
		if got := float64(WilsonLower(s, n, z)); got > low+0.01 || got < low-2 {
			t.Fatalf("lower %d of %d at %d: %v, want %v", s, n, z, got, low)
		}
		if got := float64(WilsonUpper(s, n, z)); got > high+2 || got < high-1.01 {
			t.Fatalf("upper %d of %d at %d: %v, want %v", s, n, z, got, high)
		}
	}
	for _, n := range []uint32{maxSample, maxSample + 1, math.MaxUint32} {
		for _, s := range []uint32{0, 1, n / 2, n - 1, n, math.MaxUint32} {
			low, high := wilson(s, n, math.MaxUint16)
			if low > high || high > million {
				t.Errorf("%d of %d: %d to %d", s, n, low, high)
			}
		}
	}
}

func TestScoreWorkedValues(t *testing.T) {
	rules := Rules{}.WithDefaults()
	table := &rules.Fixed
	for _, c := range []struct {
		name                  string
		failures, n           uint32
		p90, rate, advertised uint32
		correct               bool
		want                  uint32
	}{
		// 200/(200+1.96²) is 0.98115399, 20/(20+1.96²) is 0.838869.
		{"perfect", 0, 200, 50_000, 1000, 1000, true, 981_153},
		{"a fifth of the rate", 0, 200, 50_000, 200, 1000, true, 784_922},
		{"slow", 0, 200, 1_000_000, 1000, 1000, true, 735_864},
		{"wrong", 0, 200, 50_000, 1000, 1000, false, 0},
		{"dead", million, 200, 50_000, 1000, 1000, true, 0},
		{"new", 0, 0, 50_000, 1000, 1000, true, 838_869},
		{"faster than advertised", 0, 200, 0, 5000, 1000, true, 981_153},
	} {
		got := Score(Availability(c.failures, c.n, 20), LatencyScore(table, c.p90), RateScore(c.rate, c.advertised, 1024), c.correct)
		if got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestIsqrtAndMulDiv(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 100_000 {
		x := r.Uint64() >> r.UintN(64)
		if i < 300 {
			x = uint64(i)
		} else if i < 400 {
			x = math.MaxUint64 - uint64(i) + 300
		}
		root := isqrt(x)
		if root > math.MaxUint32 || root*root > x || root < math.MaxUint32 && (root+1)*(root+1) <= x {
			t.Fatalf("√%d = %d", x, root)
		}
	}
	for _, c := range [][4]uint64{
		{6, 7, 2, 21},
		{math.MaxUint64, 1000, 1000, math.MaxUint64},
		{math.MaxUint64, 2, 1, math.MaxUint64},
		{1, 1, 0, math.MaxUint64},
		{0, 5, 3, 0},
	} {
		if got := mulDiv(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%d·%d/%d = %d", c[0], c[1], c[2], got)
		}
	}
}

func TestMedianAndMAD(t *testing.T) {
	for _, c := range []struct {
		values           []uint32
		median, mad, q90 uint32
	}{
		{nil, 0, 0, 0},
		{[]uint32{7}, 7, 0, 7},
		{[]uint32{9, 1}, 1, 0, 9},
		{[]uint32{5, 1, 9}, 5, 4, 9},
		{[]uint32{1, 1, 2, 2, 4, 6, 9}, 2, 1, 9},
		{[]uint32{math.MaxUint32, 0, math.MaxUint32}, math.MaxUint32, 0, math.MaxUint32},
	} {
		before := slices.Clone(c.values)
		if m, d, q := Median(c.values), MAD(c.values), Quantile(c.values, 900_000); m != c.median || d != c.mad || q != c.q90 {
			t.Errorf("%v: median %d, MAD %d, p90 %d", c.values, m, d, q)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("%v was changed", before)
		}
	}
	history := make([]uint32, 50)
	for i := range history {
		history[i] = 1000 + uint32(i%11) // MAD 3, so the spread is 1000/32
	}
	for v, want := range map[uint32]bool{1005: false, 1180: false, 1300: true, 0: true, 800: true, 830: false} {
		if Anomalous(history, v) != want {
			t.Errorf("%d: anomalous is %v", v, !want)
		}
	}
	if Anomalous(history[:MinHistory-1], 1<<30) {
		t.Error("too short a history accuses")
	}
}

func TestWeights(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []uint64
	}{
		{"nobody", []uint64{}, []uint64{}},
		{"without stakes heads count", []uint64{0, 0, 0}, []uint64{1, 1, 1}},
		{"too few for the cap", []uint64{1000, 1, 1, 1}, []uint64{1, 1, 1, 1}},
		{
			"one whale of twelve",
			[]uint64{1000, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9},
			[]uint64{11, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9},
		},
		{
			"all alike",
			[]uint64{5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5},
			[]uint64{5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5},
		},
	} {
		got := slices.Clone(c.in)
		if CapWeights(got, 100_000); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// Whatever comes, no operator has more than a tenth where ten are heavy enough,
	// nor less than it had while a lighter one has more.
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		in := make([]uint64, 11+r.IntN(30))
		for i := range in {
			in[i] = r.Uint64() >> r.UintN(64)
		}
		got := slices.Clone(in)
		CapWeights(got, 100_000)
		var sum uint64
		for _, w := range got {
			sum += w
		}
		for i, w := range got {
			if w == 0 || w > 1 && float64(w) > float64(sum)/10+float64(len(got)) {
				t.Fatalf("%v became %v: %d of %d", in, got, w, sum)
			}
			for j := range got {
				if in[i] > in[j] && w < got[j] {
					t.Fatalf("%v became %v: the heavier is lighter", in, got)
				}
			}
		}
	}
}

func TestWeightedMedian(t *testing.T) {
	for _, c := range []struct {
		values []weighted
		want   uint32
	}{
		{nil, 0},
		{[]weighted{{5, 1}}, 5},
		{[]weighted{{9, 1}, {1, 1}}, 1},
		{[]weighted{{1, 1}, {2, 1}, {9, 3}}, 9},
		{[]weighted{{9, 1}, {2, 2}, {1, 1}}, 2},
	} {
		if got := weightedMedian(c.values); got != c.want {
			t.Errorf("%v: %d", c.values, got)
		}
	}
}

func TestCodes(t *testing.T) {
	last := uint32(0)
	for c := range uint8(maxCode) {
		v := decodedCode(c)
		if c > 0 && v <= last {
			t.Fatalf("code %d stands for %d, the one before for %d", c, v, last)
		}
		if code(v) != c {
			t.Fatalf("%d is code %d, not %d", v, code(v), c)
		}
		last = v
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 100_000 {
		v := r.Uint32() >> r.UintN(32)
		if back := decodedCode(code(v)); back > v || v-back > v/8 {
			t.Fatalf("%d became %d", v, back)
		}
	}
	if code(math.MaxUint32) != maxCode-1 {
		t.Errorf("the largest code is %d", code(math.MaxUint32))
	}
}
