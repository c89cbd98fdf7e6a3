package underlay

import (
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

// TestRelayProbe: what a node sends to itself comes back while the relay forwards, and
// does not once it has not got the registration any more.
func TestRelayProbe(t *testing.T) {
	type echo struct {
		relay  identity.NodeID
		serial uint64
	}
	echoes := make(chan echo, 16)
	var self identity.NodeID
	for i := range self {
		self[i] = 'a'
	}
	r := newPeer(t, 'r', Config{AllowLoopback: true, Relay: &relay.Limits{}}, true)
	a := newPeer(t, 'a', Config{AllowLoopback: true, Node: self, RelayEcho: func(relay identity.NodeID, serial uint64) {
		echoes <- echo{relay, serial}
	}}, true)
	c, s := connect(t, a, r, loopback(r.Port()))
	settle(t, c, s)
	c.a.ProbeRelay(1) // not registered: it goes nowhere
	register(t, c, s)
	c.a.ProbeRelay(2)
	select {
	case e := <-echoes:
		if e != (echo{r.node, 2}) {
			t.Errorf("got %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no echo")
	}
	s.a.RevokeRelay()
	c.a.ProbeRelay(3)
	select {
	case e := <-echoes:
		t.Errorf("got %+v of a relay that knows us no more", e)
	case <-time.After(200 * time.Millisecond):
	}
	if m := r.Metrics().Relay; m.Forwarded != 1 || m.DroppedStranger != 1 {
		t.Errorf("%+v", m)
	}
}
