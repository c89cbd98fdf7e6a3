package sal

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

var testNetwork = saltest.Key(999).Network()

// realUnderlay says whether the tests run over sal/underlay, as everybody else does.
func realUnderlay() bool { return os.Getenv("SCN_TEST_PLAIN") == "" }

// testNode opens node i on loopback. It is closed when the test ends.
func testNode(t testing.TB, i int, r *saltest.Resolver, change ...func(*Config)) *Node {
	t.Helper()
	cfg := Config{
		Key: saltest.Key(i), Network: testNetwork, AllowLoopback: true,
		IgnoreInterface: func(name string) bool { return name != "lo" },
	}
	if r != nil {
		cfg.Resolver = r
	}
	if !realUnderlay() {
		cfg.openCarrier = openPlain
	}
	for _, f := range change {
		f(&cfg)
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	if r != nil {
		r.SetNode(n.ID(), n.Locators()...)
	}
	return n
}

// provide tells the resolver that nodes provide service i.
func provide(r *saltest.Resolver, i int, nodes ...*Node) identity.ServiceID {
	service := saltest.Key(i).Service()
	var c []record.Candidate
	for _, n := range nodes {
		c = append(c, record.Candidate{Node: n.ID(), Priority: 10, Weight: 10})
	}
	r.SetService(service, c...)
	return service
}

// echo serves every port: streams and datagrams come back as they are.
func echo(_ context.Context, in *Incoming) {
	if in.Protocol == record.UDP {
		c, err := in.AcceptPacket()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, MaxDatagram)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	c, err := in.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.Copy(c, c)
}

// testPair opens two nodes, the second of which provides service 100 as echo.
func testPair(t testing.TB) (client, server *Node, service identity.ServiceID) {
	t.Helper()
	r := &saltest.Resolver{}
	client, server = testNode(t, 1, r), testNode(t, 2, r)
	service = provide(r, 100, server)
	server.Handle(service, echo)
	return client, server, service
}

func timeoutContext(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// exchange writes a line over c and expects it back.
func exchange(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("ping\n")); err != nil {
		t.Fatalf("write: %v", err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read: %v", err)
	}
	if string(b) != "ping\n" {
		t.Fatalf("got %q", b)
	}
	_ = c.SetDeadline(time.Time{})
}

func candidate(n *Node) record.Candidate {
	return record.Candidate{Node: n.ID(), Locators: n.Locators(), Weight: 1}
}
