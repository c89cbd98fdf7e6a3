package sal

import (
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/saltest"
)

// TestLoneProvider: a burst of early sessions to a service with one provider does not
// ask the resolver for each, and notices soon that there is another.
func TestLoneProvider(t *testing.T) {
	client, server, service := testPair(t)
	r := client.cfg.Resolver.(*saltest.Resolver)
	dial := func() {
		t.Helper()
		c, err := client.DialEarly(timeoutContext(t, 20*time.Second), service, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		exchange(t, c)
	}
	dial()
	const burst = 50
	before := r.Asked()
	for range burst {
		dial()
	}
	if asked := r.Asked() - before; asked >= burst {
		t.Errorf("the resolver was asked %d times for %d sessions", asked, burst)
	}
	other := testNode(t, 3, r)
	other.Handle(service, echo)
	r.SetService(service, candidate(server), candidate(other))
	time.Sleep(loneFor)
	for range 2 {
		before = r.Asked()
		dial()
		if r.Asked() == before {
			t.Error("of two providers one is taken for the only one")
		}
	}
	// A provider that is gone is not taken on trust.
	r.SetService(service, candidate(other))
	time.Sleep(loneFor)
	dial()
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	r.SetService(service, candidate(server))
	eventually(t, "the other provider takes over", func() bool {
		c, err := client.DialEarly(timeoutContext(t, 20*time.Second), service, 1)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Write([]byte("x"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err == nil
	})
}

func TestLoneTable(t *testing.T) {
	var table loneTable
	start := time.Unix(1, 0)
	node := saltest.Key(1).Node()
	id := func(i int) identity.ServiceID { return identity.ServiceID{byte(i), byte(i >> 8), 1} }
	for i := range 2 * maxLone {
		table.found(id(i), node, start)
	}
	if len(table.providers) != maxLone {
		t.Errorf("%d services remembered", len(table.providers))
	}
	if got, ok := table.lone(id(1), start.Add(loneFor/2)); !ok || got != node {
		t.Errorf("found %v, %t", got, ok)
	}
	if _, ok := table.lone(id(1), start.Add(loneFor)); ok {
		t.Error("remembered for too long")
	}
	if _, ok := table.lone(id(2*maxLone-1), start); ok {
		t.Error("remembered beyond the bound")
	}
	table.found(id(2*maxLone-1), node, start.Add(2*loneFor))
	if _, ok := table.lone(id(2*maxLone-1), start.Add(2*loneFor)); !ok {
		t.Error("what is old leaves no room")
	}
}
