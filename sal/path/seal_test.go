package path

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func testSecret() []byte {
	b := make([]byte, SecretSize)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// TestDatagramBytes pins the whole format: key schedule, header and sealing.
func TestDatagramBytes(t *testing.T) {
	send, _, err := directions(testSecret(), true)
	if err != nil {
		t.Fatal(err)
	}
	var m message
	m.state = state{inUse: true, generation: 2, seen: 3}
	m.addChallenge(challenge{nonce: 0x1122334455667788})
	got := hex.EncodeToString(send.seal(7, m.append(nil)))
	const want = "01" + // path message
		"482cc3a2af1ade90" + // receiver index of the responder
		"0000000000000007" + // counter
		"6e999fcdbd7a2dbfc037d65c0ab99a9ddadbffb41bbbecc5b6dd64896a23fdc739a78a2d" // sealed and tag
	if got != want {
		t.Errorf("datagram\n got %s\nwant %s", got, want)
	}
}

func TestDirections(t *testing.T) {
	aSend, aReceive, err := directions(testSecret(), true)
	if err != nil {
		t.Fatal(err)
	}
	bSend, bReceive, err := directions(testSecret(), false)
	if err != nil {
		t.Fatal(err)
	}
	if aSend.index != bReceive.index || bSend.index != aReceive.index || aSend.index == bSend.index {
		t.Fatalf("indexes: a %x/%x, b %x/%x", aSend.index, aReceive.index, bSend.index, bReceive.index)
	}
	datagram := aSend.seal(1, []byte("plain"))
	if index, ok := Index(append(datagram, make([]byte, 20)...)); !ok || index != bReceive.index {
		t.Errorf("index %x %v, want %x", index, ok, bReceive.index)
	}
	if plain, err := bReceive.open(nil, 1, datagram, new([12]byte)); err != nil || !bytes.Equal(plain, []byte("plain")) {
		t.Errorf("opened %q, %v", plain, err)
	}
	if _, err := aReceive.open(nil, 1, datagram, new([12]byte)); err == nil {
		t.Error("a reflected datagram opened")
	}
	for i := range datagram {
		forged := bytes.Clone(datagram)
		forged[i] ^= 1
		counter := uint64(1)
		if _, err := bReceive.open(nil, counter, forged, new([12]byte)); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
	}
}

func TestIndexTruncated(t *testing.T) {
	send, _, err := directions(testSecret(), true)
	if err != nil {
		t.Fatal(err)
	}
	datagram := send.seal(1, state{}.append(nil))
	if _, ok := Index(datagram); !ok {
		t.Fatal("the least message is refused")
	}
	for n := range datagram {
		if _, ok := Index(datagram[:n]); ok {
			t.Errorf("%d bytes of %d pass", n, len(datagram))
		}
	}
	datagram[0] = 0x02
	if _, ok := Index(datagram); ok {
		t.Error("another type passes")
	}
}
