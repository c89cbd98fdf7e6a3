package underlay

import (
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

// TestRelayWords: a relay tells a node of another that is not registered, once, and the
// node that it is not registered itself, also for a token of the relay's earlier life.
func TestRelayWords(t *testing.T) {
	type said struct {
		relay identity.NodeID
		word  RelayWord
		about relay.Prefix
	}
	words := make(chan said, 64)
	key := [16]byte{1, 2, 3}
	r := newPeer(t, 'r', Config{AllowLoopback: true, Relay: &relay.Limits{}, RelayKey: key}, true)
	a := newPeer(t, 'a', Config{AllowLoopback: true, RelayWord: func(relay identity.NodeID, word RelayWord, about relay.Prefix) {
		words <- said{relay, word, about}
	}}, true)
	c, s := connect(t, a, r, loopback(r.Port()))
	settle(t, c, s)
	register(t, c, s)
	hear := func(want said) {
		t.Helper()
		select {
		case got := <-words:
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not a word")
		}
	}
	nobody := identity.NodeID{'x', 'y', 7: 'z', 8: 1}
	a.cfg.Node = nobody // who sends to it sends to nobody
	c.a.ProbeRelay(1)
	hear(said{r.node, RelayUnknownNode, relay.Prefix(nobody[:8])})
	c.a.ProbeRelay(2)
	select {
	case w := <-words:
		t.Errorf("told again: %+v", w)
	case <-time.After(100 * time.Millisecond):
	}
	s.a.RevokeRelay()
	c.a.ProbeRelay(3)
	hear(said{r.node, RelayUnregistered, relay.Prefix{}})
	// What an earlier life gave out is known by its mark; what nobody did is not.
	other := relay.NewSieve(key).Mark(relay.Token{9, 9, 9, 9, 9})
	if err := c.a.UseRelay(other); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Duration(wordEvery))
	c.a.ProbeRelay(4)
	hear(said{r.node, RelayUnregistered, relay.Prefix{}})
}
