package underlay

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"scn.alt/scn/sal/relay"
)

// TestSieveProgram runs the kernel's program beside the sieve itself.
func TestSieveProgram(t *testing.T) {
	sieve := relay.NewSieve([16]byte{9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6})
	with, err := bpf.NewVM(sieveProgram(&sieve))
	if err != nil {
		t.Fatal(err)
	}
	without, err := bpf.NewVM(sieveProgram(nil))
	if err != nil {
		t.Fatal(err)
	}
	passes := func(vm *bpf.VM, datagram []byte) bool {
		n, err := vm.Run(append(make([]byte, payloadAt), datagram...))
		if err != nil {
			t.Fatal(err)
		}
		return n != 0
	}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 5000 {
		var token relay.Token
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], random.Uint64())
		copy(token[:], b[:])
		if i%2 == 0 {
			token = sieve.Mark(token)
		}
		datagram := append(relay.Header{Type: relay.TypeForward, Token: token}.Append(nil), 0x40)
		if got, want := passes(with, datagram), sieve.Passes(token); got != want {
			t.Fatalf("token %x: %v, want %v", [7]byte(token), got, want)
		}
		if passes(without, datagram) {
			t.Fatal("passes where nothing is relayed")
		}
	}
	for first := range 256 {
		if first == relay.TypeForward {
			continue
		}
		datagram := []byte{byte(first)}
		if !passes(with, datagram) || !passes(without, datagram) {
			t.Errorf("datagrams that begin with %#x are dropped", first)
		}
	}
	for n := range relay.HeaderSize / 2 {
		if passes(with, append([]byte{relay.TypeForward}, make([]byte, n)...)[:n+1]) && n < len(relay.Token{}) {
			t.Errorf("%d bytes of a token pass", n)
		}
	}
}

// TestRelayKey: a relay that restarts with the same key still hears those who were
// registered before.
func TestRelayKey(t *testing.T) {
	key := [16]byte{1, 2, 3}
	before, after := open(t, Config{Relay: &relay.Limits{}, RelayKey: key}), open(t, Config{Relay: &relay.Limits{}, RelayKey: key})
	random, another := open(t, Config{Relay: &relay.Limits{}}), open(t, Config{Relay: &relay.Limits{}})
	token := before.forwarder.sieve.Mark(relay.Token{9, 9, 9})
	if !after.forwarder.sieve.Passes(token) {
		t.Error("a token of the life before does not pass")
	}
	if random.forwarder.sieve == another.forwarder.sieve || random.forwarder.sieve == before.forwarder.sieve {
		t.Error("keys are not random")
	}
}
