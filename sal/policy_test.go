package sal

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

// TestPolicyOrdersAndRefuses: the policy's rank comes before the grant's priority,
// what it refuses is never tried, and where nothing else is left the dialer hears why.
func TestPolicyOrdersAndRefuses(t *testing.T) {
	r := &saltest.Resolver{}
	first, second := testNode(t, 2, r), testNode(t, 3, r)
	tooDear := &failure{"too dear", []error{syscall.ECONNREFUSED}}
	var rank map[identity.NodeID]uint64
	var refused map[identity.NodeID]bool
	client := testNode(t, 1, r, func(c *Config) {
		c.Policy = func(_ identity.ServiceID, choices []Choice) {
			for i := range choices {
				c := &choices[i]
				c.Rank = rank[c.Node]
				if refused[c.Node] {
					c.Refused = tooDear
				}
			}
		}
	})
	service := saltest.Key(100).Service()
	r.SetService(service, record.Candidate{Node: first.ID(), Weight: 1}, record.Candidate{Node: second.ID(), Priority: 1, Weight: 1})
	first.Handle(service, echo)
	second.Handle(service, echo)
	ctx := timeoutContext(t, 20*time.Second)
	dial := func() (identity.NodeID, error) {
		c, err := client.Dial(ctx, service, 7)
		if err != nil {
			return identity.NodeID{}, err
		}
		defer c.Close()
		exchange(t, c)
		return c.RemoteAddr().(Addr).Node, nil
	}
	for _, c := range []struct {
		name    string
		rank    map[identity.NodeID]uint64
		refused map[identity.NodeID]bool
		want    identity.NodeID
	}{
		{"nothing said: the grants decide", nil, nil, first.ID()},
		{"rank before priority", map[identity.NodeID]uint64{first.ID(): 5, second.ID(): 4}, nil, second.ID()},
		{"refused", nil, map[identity.NodeID]bool{first.ID(): true}, second.ID()},
	} {
		rank, refused = c.rank, c.refused
		at, err := dial()
		if err != nil || at != c.want {
			t.Errorf("%s: at %s, %v", c.name, at.Short(), err)
		}
	}
	refused = map[identity.NodeID]bool{first.ID(): true, second.ID(): true}
	client.lone = loneTable{}
	if _, err := dial(); !errors.Is(err, tooDear) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("all refused: %v", err)
	}
}

// TestPolicyChangesWeights: what a policy makes of a weight is what counts.
func TestPolicyChangesWeights(t *testing.T) {
	n := &Node{cfg: Config{Policy: func(_ identity.ServiceID, choices []Choice) { choices[0].Weight = 0 }}}
	r := &racer{node: n, worst: ErrNoProvider, options: []option{
		{Candidate: record.Candidate{Weight: 1000}, reachable: true},
		{Candidate: record.Candidate{Weight: 1}, reachable: true},
	}}
	r.consult()
	for range 100 {
		if i := pick(r.options, true, func(n int64) int64 { return n - 1 }); i != 1 {
			t.Fatalf("option %d", i)
		}
	}
}

// TestPingAt asks one of two providers, and that very one answers.
func TestPingAt(t *testing.T) {
	r := &saltest.Resolver{}
	client, a, b := testNode(t, 1, r), testNode(t, 2, r), testNode(t, 3, r)
	service := provide(r, 100, a, b)
	a.Handle(service, echo)
	ctx := timeoutContext(t, 20*time.Second)
	if _, err := client.PingAt(ctx, record.Candidate{Node: a.ID(), Locators: a.Locators()}, service); err != nil {
		t.Errorf("who provides it: %v", err)
	}
	if _, err := client.PingAt(ctx, record.Candidate{Node: b.ID(), Locators: b.Locators()}, service); !errors.Is(err, ErrUnknownService) {
		t.Errorf("who does not: %v", err)
	}
	if _, err := client.PingAt(ctx, record.Candidate{Node: client.ID()}, service); err != nil {
		t.Errorf("itself: %v", err)
	}
}
