package sal

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

// TestDrainingProviderIsAskedOnce: a provider of better priority that drains sends a
// dialer on at once, and is not asked first again for a while; other services of its
// are none the wiser.
func TestDrainingProviderIsAskedOnce(t *testing.T) {
	r := &saltest.Resolver{}
	client, draining, other := testNode(t, 1, r), testNode(t, 2, r), testNode(t, 3, r)
	service, second := saltest.Key(100).Service(), saltest.Key(101).Service()
	for _, s := range []identity.ServiceID{service, second} {
		r.SetService(s, record.Candidate{Node: draining.ID(), Weight: 1}, record.Candidate{Node: other.ID(), Priority: 1, Weight: 1})
		other.Handle(s, echo)
	}
	var asked, drains atomic.Int32
	drains.Store(1)
	draining.Handle(service, func(ctx context.Context, in *Incoming) {
		asked.Add(1)
		if drains.Load() != 0 {
			in.Reject(ErrDraining)
			return
		}
		echo(ctx, in)
	})
	draining.Handle(second, echo)
	ctx := timeoutContext(t, 20*time.Second)
	dial := func(s identity.ServiceID) identity.NodeID {
		t.Helper()
		c, err := client.Dial(ctx, s, 7)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		exchange(t, c)
		return c.RemoteAddr().(Addr).Node
	}
	for range 3 {
		if at := dial(service); at != other.ID() {
			t.Errorf("at %s", at.Short())
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the draining provider was asked %d times, want once", asked.Load())
	}
	if at := dial(second); at != draining.ID() {
		t.Errorf("its other service is at %s", at.Short())
	}
	// It alone is left: asked nonetheless, and truthful.
	r.SetService(service, record.Candidate{Node: draining.ID(), Weight: 1})
	if _, err := client.Dial(ctx, service, 7); !errors.Is(err, ErrDraining) {
		t.Errorf("dial: %v, want ErrDraining", err)
	}
	drains.Store(0)
	if at := dial(service); at != draining.ID() {
		t.Errorf("at %s", at.Short())
	}
}

func TestDeclinedIsForgotten(t *testing.T) {
	var d declinedTable
	now := time.Unix(1000, 0)
	service, node := identity.ServiceID{1}, identity.NodeID{2}
	marked := func(at time.Time) bool {
		o := []option{{Candidate: record.Candidate{Node: node}}}
		d.mark(service, o, at)
		return o[0].suspect
	}
	d.note(service, node, ErrRefused, now)
	if marked(now) {
		t.Error("a refusal by the target is not the provider's")
	}
	d.note(service, node, ErrDraining, now)
	if !marked(now.Add(declinedFor/2)) || marked(now.Add(declinedFor)) {
		t.Error("not remembered, or for too long")
	}
	for i := range 2 * maxDeclined {
		d.note(service, identity.NodeID{byte(i), byte(i >> 8), 7}, ErrDraining, now)
	}
	if len(d.until) > maxDeclined {
		t.Errorf("%d remembered", len(d.until))
	}
}
