package relay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestHeaderOnTheWire(t *testing.T) {
	h := Header{Type: TypeForward, Token: Token{1, 2, 3, 4, 5, 6, 7}, Node: Prefix{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7}}
	const golden = "04" + // type: please forward
		"01020304050607" + // token
		"a0a1a2a3a4a5a6a7" // destination
	b := h.Append(nil)
	if got := hex.EncodeToString(b); got != golden || len(b) != HeaderSize || HeaderSize != 16 {
		t.Fatalf("got %s, want %s", got, golden)
	}
	b = append(b, 0x40, 9)
	got, inner, err := Parse(b)
	if err != nil || got != h || !bytes.Equal(inner, []byte{0x40, 9}) {
		t.Errorf("got %+v, %x, %v", got, inner, err)
	}
	h.Type = TypeRelayed
	h.Put(b)
	if got, _, err := Parse(b); err != nil || got != h {
		t.Errorf("after Put: %+v, %v", got, err)
	}
	for n := range HeaderSize + 1 {
		if _, _, err := Parse(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestHeaderIsNotNested(t *testing.T) {
	for first := range 256 {
		b := Header{Type: TypeRelayed}.Append(nil)
		_, _, err := Parse(append(b, byte(first), 0))
		if bad := first == TypeForward || first == TypeRelayed; bad != (err != nil) {
			t.Errorf("inner datagram %#x: %v", first, err)
		}
		b[0] = byte(first)
		_, _, err = Parse(append(b, 0x40, 0))
		if good := first == TypeForward || first == TypeRelayed; good != (err == nil) {
			t.Errorf("type %#x: %v", first, err)
		}
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	h := Header{Type: TypeForward, Token: Token{0xde, 0xad, 0xbe, 0xef}}
	for _, text := range []string{h.String(), h.Token.String()} {
		if bytes.Contains([]byte(text), []byte("dead")) {
			t.Errorf("the token is in %q", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(Header{Type: TypeForward, Token: Token{1}, Node: Prefix{2}}.Append(nil), 0x40, 1))
	f.Add(append(Header{Type: TypeRelayed}.Append(nil), 0x01))
	f.Add(append(Header{Type: TypeRelayed}.Append(nil), TypeRelayed))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, inner, err := Parse(b)
		if err != nil {
			return
		}
		if len(inner) == 0 {
			t.Fatal("an empty datagram was accepted")
		}
		if got := append(h.Append(nil), inner...); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}
