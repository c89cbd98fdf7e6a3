package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

const testDomain = "scn/test/v1"

func seal(t testing.TB, k PrivateKey, typ string, payload []byte) []byte {
	t.Helper()
	b, err := k.Seal(testDomain, typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unhex reads annotated hex: what follows a # on a line is a note.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The signed bytes and the envelope, byte by byte.
func TestGoldenEnvelope(t *testing.T) {
	k := testKey(1)
	signed := unhex(t, `
		00 00 00 00 00 00 00 0b              # length of the domain
		73 63 6e 2f 74 65 73 74 2f 76 31     # "scn/test/v1"
		00 00 00 00 00 00 00 04              # length of the type
		74 79 70 65                          # "type"
		00 00 00 00 00 00 00 02              # length of the payload
		68 69                                # "hi"
	`)
	if got := signedBytes(testDomain, "type", []byte("hi")); !bytes.Equal(got, signed) {
		t.Fatalf("signed bytes\n%x, want\n%x", got, signed)
	}
	want := unhex(t, `
		a4                                   # a map of 4
		01 58 20                             # 1: signer, 32 bytes
		   cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc
		02 64 74 79 70 65                    # 2: type, text of 4: "type"
		03 42 68 69                          # 3: payload, 2 bytes: "hi"
		04 58 40                             # 4: signature, 64 bytes
		   4fe36ac79f0da3fa698f986d24a48e983ce7d215d9550b2587c8b015d9600fd1
		   42b37854f0c7f4e249e99a046cc5ca07b75042a21e41a62fc78ef9556b818006
	`)
	if got := seal(t, k, "type", []byte("hi")); !bytes.Equal(got, want) {
		t.Fatalf("envelope\n%x, want\n%x", got, want)
	}
}

func TestOpen(t *testing.T) {
	k := testKey(1)
	b := seal(t, k, "type", []byte("hi"))
	e, err := Open(testDomain, "type", b)
	if err != nil || e.Signer != k.Public() || string(e.Payload) != "hi" || e.Type != "type" {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := Open("scn/other/v1", "type", b); !errors.Is(err, ErrSignature) {
		t.Errorf("another domain: %v", err)
	}
	if _, err := Open(testDomain, "other", b); !errors.Is(err, ErrType) {
		t.Errorf("another type: %v", err)
	}
	if _, err := Open(testDomain, "type", make([]byte, MaxEnvelope+1)); !errors.Is(err, ErrSize) {
		t.Errorf("too large: %v", err)
	}
	for i := range b {
		if _, err := Open(testDomain, "type", b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << bit
			if _, err := Open(testDomain, "type", flipped); err == nil {
				t.Errorf("bit %d of byte %d flipped, and nobody noticed", bit, i)
			}
		}
	}
}

// One value has one encoding: every other is refused, signed or not.
func TestUnmarshalRefusesOtherSpellings(t *testing.T) {
	type inner struct {
		List []uint64 `cbor:"1,keyasint"`
	}
	type value struct {
		Number uint64   `cbor:"1,keyasint"`
		Bytes  []byte   `cbor:"2,keyasint"`
		Array  [2]byte  `cbor:"3,keyasint"`
		Inner  []inner  `cbor:"4,keyasint"`
		Maybe  uint64   `cbor:"5,keyasint,omitzero"`
		Text   string   `cbor:"6,keyasint,omitempty"`
		Flags  []string `cbor:"7,keyasint,omitempty"`
	}
	good := "a4 01 05 02 41ff 03 420102 04 80"
	for _, tt := range []struct{ name, hex string }{
		{"trailing byte", good + "00"},
		{"number in two bytes", "a4 01 1805 02 41ff 03 420102 04 80"},
		{"number as a float", "a4 01 f94500 02 41ff 03 420102 04 80"},
		{"number as a bignum", "a4 01 c24105 02 41ff 03 420102 04 80"},
		{"negative number", "a4 01 20 02 41ff 03 420102 04 80"},
		{"null for bytes", "a4 01 05 02 f6 03 420102 04 80"},
		{"undefined for bytes", "a4 01 05 02 f7 03 420102 04 80"},
		{"null for a list", "a4 01 05 02 41ff 03 420102 04 f6"},
		{"text for bytes", "a4 01 05 02 61 41 03 420102 04 80"},
		{"length in two bytes", "a4 01 05 02 5801ff 03 420102 04 80"},
		{"indefinite bytes", "a4 01 05 02 5f41ffff 03 420102 04 80"},
		{"indefinite map", "bf 01 05 02 41ff 03 420102 04 80 ff"},
		{"indefinite list", "a4 01 05 02 41ff 03 420102 04 9fff"},
		{"array too short", "a4 01 05 02 41ff 03 4101 04 80"},
		{"array too long", "a4 01 05 02 41ff 03 43010203 04 80"},
		{"array as a list", "a4 01 05 02 41ff 03 820102 04 80"},
		{"keys out of order", "a4 02 41ff 01 05 03 420102 04 80"},
		{"key twice", "a5 01 05 01 05 02 41ff 03 420102 04 80"},
		{"unknown key", "a5 01 05 02 41ff 03 420102 04 80 08 00"},
		{"text key", "a5 01 05 02 41ff 03 420102 04 80 61 35 00"},
		{"missing key", "a3 01 05 02 41ff 03 420102"},
		{"zero where left out", "a5 01 05 02 41ff 03 420102 04 80 05 00"},
		{"empty where left out", "a5 01 05 02 41ff 03 420102 04 80 06 60"},
		{"tag", "c1 a4 01 05 02 41ff 03 420102 04 80"},
		{"not a map", "80"},
		{"bad UTF-8", "a5 01 05 02 41ff 03 420102 04 80 06 61ff"},
		{"list longer than its bytes", "a4 01 05 02 41ff 03 420102 04 9affffffff"},
		{"bytes longer than the input", "a4 01 05 02 5bffffffffffffffff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v value
			if err := Unmarshal(unhex(t, tt.hex), &v); err == nil {
				t.Errorf("read as %+v", v)
			}
		})
	}
	var v value
	if err := Unmarshal(unhex(t, good), &v); err != nil || v.Number != 5 {
		t.Errorf("the one good spelling: %+v, %v", v, err)
	}
	b, err := Marshal(value{})
	if err != nil || !bytes.Equal(b, unhex(t, "a4 01 00 02 40 03 420000 04 80")) {
		t.Errorf("zero value: %x, %v", b, err)
	}
	if err := Unmarshal(b, new(value)); err != nil {
		t.Errorf("zero value: %v", err)
	}
}

// smallOrder are all encodings of the eight points of small order, the canonical
// and the others: the cases in which verifiers of Ed25519 disagree
// (ZIP-215; Chalkias et al., "Taming the many EdDSAs").
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000080", // not canonical: sign of 0
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", // not canonical: sign of 0
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // not canonical: y = p
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // not canonical: y = p+1
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

// With keys and nonces of small order and s = 0, ZIP-215 accepts every message;
// the standard library does not. A batch must say the same as a single check, or
// two nodes that judge one transaction would part.
func TestZIP215(t *testing.T) {
	disagree := 0
	batch := voi.NewBatchVerifier()
	for _, a := range smallOrder {
		for _, r := range smallOrder {
			var signer [Size]byte
			var signature [SignatureSize]byte
			copy(signer[:], unhex(t, a))
			copy(signature[:], unhex(t, r))
			if !Verify(signer, testDomain, "type", []byte("hi"), signature) {
				t.Errorf("key %s, nonce %s: refused", a, r)
			}
			message := signedBytes(testDomain, "type", []byte("hi"))
			batch.AddWithOptions(signer[:], message, signature[:], zip215)
			if !ed25519.Verify(signer[:], message, signature[:]) {
				disagree++
			}
		}
	}
	if all, _ := batch.Verify(nil); !all {
		t.Error("the batch disagrees with the single checks")
	}
	if disagree == 0 {
		t.Error("the standard library agrees with all; these are not the disagreement vectors")
	}
	t.Logf("the standard library disagrees on %d of %d", disagree, len(smallOrder)*len(smallOrder))
}

// A signature with s+L for s would be a second signature of the same message,
// made by a stranger.
func TestSignatureIsNotMalleable(t *testing.T) {
	k := testKey(1)
	signature := k.Sign(testDomain, "type", []byte("hi"))
	if !Verify(k.Public(), testDomain, "type", []byte("hi"), signature) {
		t.Fatal("a good signature is refused")
	}
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).SetBytes(reversed(signature[32:]))
	s.Add(s, order)
	copy(signature[32:], reversed(s.FillBytes(make([]byte, 32))))
	if Verify(k.Public(), testDomain, "type", []byte("hi"), signature) {
		t.Error("s+L is accepted")
	}
}

// Moving a byte across a boundary must change what is signed.
func TestSignedBytesAreUnambiguous(t *testing.T) {
	if bytes.Equal(signedBytes("ab", "c", nil), signedBytes("a", "bc", nil)) ||
		bytes.Equal(signedBytes("a", "bc", nil), signedBytes("a", "b", []byte("c"))) {
		t.Error("two meanings, one message")
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

func FuzzOpen(f *testing.F) {
	good := seal(f, testKey(1), "type", []byte("hi"))
	f.Add(good)
	f.Add(good[:20])
	f.Add(seal(f, testKey(1), "type", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Open(testDomain, "type", b)
		if err != nil {
			return
		}
		again, err := Marshal(e)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x has a second encoding %x, %v", b, again, err)
		}
	})
}
