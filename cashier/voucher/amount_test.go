package voucher

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
)

func TestParseAmount(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Amount
		err  error
		back string // "" means the same text
	}{
		{"0", 0, nil, ""},
		{"1", 1_000_000, nil, ""},
		{"1.5", 1_500_000, nil, ""},
		{"1.50", 1_500_000, nil, "1.5"},
		{"0.000001", 1, nil, ""},
		{"0.100000", 100_000, nil, "0.1"},
		{"10.010", 10_010_000, nil, "10.01"},
		{"18446744073709.551615", MaxAmount, nil, ""},
		{"18446744073709.551616", 0, ErrRange, ""},
		{"18446744073710", 0, ErrRange, ""},
		{"99999999999999999999999999999999", 0, ErrRange, ""},
		{"", 0, ErrSyntax, ""},
		{".", 0, ErrSyntax, ""},
		{".5", 0, ErrSyntax, ""},
		{"1.", 0, ErrSyntax, ""},
		{"1..5", 0, ErrSyntax, ""},
		{"1.5.5", 0, ErrSyntax, ""},
		{"00", 0, ErrSyntax, ""},
		{"01", 0, ErrSyntax, ""},
		{"00.5", 0, ErrSyntax, ""},
		{"+1", 0, ErrSyntax, ""},
		{"-", 0, ErrSyntax, ""},
		{"-1", 0, ErrNegative, ""},
		{"-0.5", 0, ErrNegative, ""},
		{"1e3", 0, ErrSyntax, ""},
		{"1,5", 0, ErrSyntax, ""},
		{"1_000", 0, ErrSyntax, ""},
		{" 1", 0, ErrSyntax, ""},
		{"1 ", 0, ErrSyntax, ""},
		{"1\x00", 0, ErrSyntax, ""},
		{"١", 0, ErrSyntax, ""},
		{"0x10", 0, ErrSyntax, ""},
		{"NaN", 0, ErrSyntax, ""},
		{"1.0000001", 0, ErrPlaces, ""},
		{"1.0000000", 0, ErrPlaces, ""},
	} {
		got, err := ParseAmount(tt.text)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("ParseAmount(%q) = %d, %v, want %d, %v", tt.text, got, err, tt.want, tt.err)
		}
		if tt.err != nil {
			continue
		}
		if back := tt.back; back == "" && got.String() != tt.text || back != "" && got.String() != back {
			t.Errorf("%q is written as %q", tt.text, got)
		}
	}
	if _, err := ParseAmount(strings.Repeat("9", 1<<20)); err == nil || len(err.Error()) > 100 {
		t.Error("a huge text makes a huge error")
	}
}

func TestAmountArithmetic(t *testing.T) {
	if sum, ok := Amount(2).Add(3); sum != 5 || !ok {
		t.Errorf("2+3 = %d, %v", sum, ok)
	}
	if _, ok := MaxAmount.Add(1); ok {
		t.Error("an overflow goes unnoticed")
	}
	if rest, ok := Amount(3).Sub(3); rest != 0 || !ok {
		t.Errorf("3-3 = %d, %v", rest, ok)
	}
	if _, ok := Amount(2).Sub(3); ok {
		t.Error("a negative amount goes unnoticed")
	}
}

func TestAmountInJSON(t *testing.T) {
	b, err := json.Marshal(struct{ A Amount }{1_500_000})
	if err != nil || string(b) != `{"A":"1.5"}` {
		t.Errorf("%s, %v", b, err)
	}
	var v struct{ A Amount }
	if err := json.Unmarshal([]byte(`{"A":"0.25"}`), &v); err != nil || v.A != 250_000 {
		t.Errorf("%d, %v", v.A, err)
	}
	if err := json.Unmarshal([]byte(`{"A":0.25}`), &v); err == nil {
		t.Error("a float is taken for an amount")
	}
}

func TestTransferID(t *testing.T) {
	id, err := NewTransferID(strings.NewReader("0123456789abcdef"))
	if err != nil || id.String() != "30313233343536373839616263646566" || id.IsZero() {
		t.Fatalf("%s, %v", id, err)
	}
	if _, err := NewTransferID(strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no randomness: %v", err)
	}
	var back TransferID
	if err := back.UnmarshalText([]byte(id.String())); err != nil || back != id {
		t.Errorf("%s, %v", back, err)
	}
	for _, text := range []string{"", "3031", id.String() + "0", strings.ToUpper("a" + id.String()[1:]), strings.Repeat("g", 32), strings.Repeat(" ", 32)} {
		if _, err := ParseTransferID(text); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"0", "1.5", "18446744073709.551615", "18446744073709.551616", "1.", "01", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		var again Amount
		if e := again.UnmarshalText([]byte(s)); again != a || (e == nil) != (err == nil) {
			t.Errorf("%q: two answers, %d and %d", s, a, again)
		}
		if err != nil {
			if a != 0 {
				t.Errorf("%q: %d beside an error", s, a)
			}
			return
		}
		if again, err := ParseAmount(a.String()); err != nil || again != a {
			t.Errorf("%q is %d, whose text %q is %d, %v", s, a, a, again, err)
		}
		r, ok := new(big.Rat).SetString(s)
		if !ok || r.Mul(r, big.NewRat(int64(Credit), 1)).Cmp(new(big.Rat).SetInt(new(big.Int).SetUint64(uint64(a)))) != 0 {
			t.Errorf("%q is not %d", s, a)
		}
	})
}

func FuzzParseTransferID(f *testing.F) {
	f.Add("30313233343536373839616263646566")
	f.Add("3031")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseTransferID(s)
		var again TransferID
		if e := again.UnmarshalText([]byte(s)); (e == nil) != (err == nil) || err == nil && again != id {
			t.Errorf("%q: two answers, %s and %s", s, id, again)
		}
		if err == nil && id.String() != s {
			t.Errorf("%q became %s", s, id)
		}
		if b, _ := id.MarshalText(); err == nil && !bytes.Equal(b, []byte(s)) {
			t.Errorf("%q became %s", s, b)
		}
	})
}
