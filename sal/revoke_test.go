package sal

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

// TestEndServed ends the sessions of one peer; those of another notice nothing.
func TestEndServed(t *testing.T) {
	r := &saltest.Resolver{}
	server := testNode(t, 2, r)
	forbidden := testNode(t, 1, r, func(c *Config) { c.Hello = []byte("I am one") })
	allowed := testNode(t, 3, r)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	ctx := timeoutContext(t, 20*time.Second)

	stream, err := forbidden.Dial(ctx, service, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	packets, err := forbidden.DialPacket(ctx, service, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	stays, err := allowed.Dial(ctx, service, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	exchange(t, stream)
	exchange(t, stays)

	var seen []Served
	judge := func(v Served) error {
		seen = append(seen, v)
		if v.Peer == forbidden.ID() {
			return ErrNotAuthorized
		}
		return nil
	}
	if n := server.EndServed(judge); n != 2 {
		t.Errorf("%d sessions ended, want 2: %+v", n, seen)
	}
	for _, v := range seen {
		if v.Service != service || v.Port != 7 || v.Peer == forbidden.ID() && string(v.Hello) != "I am one" {
			t.Errorf("judged as %+v", v)
		}
	}
	for name, read := range map[string]func([]byte) (int, error){"stream": stream.Read, "packets": packets.Read} {
		if _, err := read(make([]byte, 10)); !errors.Is(err, ErrNotAuthorized) || !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s: read returned %v, want ErrNotAuthorized", name, err)
		}
	}
	exchange(t, stays)
	if n := server.EndServed(judge); n != 0 {
		t.Errorf("%d sessions ended again", n)
	}
}

// TestIncomingEnd ends a session just accepted, and PeerHello waits for the words of
// the peer.
func TestIncomingEnd(t *testing.T) {
	r := &saltest.Resolver{}
	server := testNode(t, 2, r)
	client := testNode(t, 1, r, func(c *Config) { c.Hello = []byte("hello") })
	service := provide(r, 100, server)
	hello := make(chan string, 1)
	server.Handle(service, func(ctx context.Context, in *Incoming) {
		hello <- string(in.PeerHello(ctx))
		if v := in.Served(); v.Peer != client.ID() || v.Protocol != record.TCP || string(v.Hello) != "hello" {
			t.Errorf("served as %+v", v)
		}
		c, err := in.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.End(ErrNotAuthorized)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrNotAuthorized) {
			t.Errorf("provider reads %v", err)
		}
	})
	// The acceptance may be overtaken by the end: the dial itself fails then.
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 7)
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, ErrNotAuthorized) {
		t.Errorf("dialer gets %v, want ErrNotAuthorized", err)
	}
	if got := <-hello; got != "hello" {
		t.Errorf("peer said %q", got)
	}
}
