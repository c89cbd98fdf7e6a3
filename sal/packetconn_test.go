package sal

import (
	"context"
	"net"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/saltest"
)

func packetPipe(t *testing.T, from, to *Node) saltest.MakePackets {
	service := identity.ServiceOf(to.ID())
	l, err := to.ListenPacket(service, 9)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := from.cfg.Resolver.(*saltest.Resolver)
	r.SetService(service, candidate(to))
	return func() (a, b net.Conn, stop func(), err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c1, err := from.DialPacket(ctx, service, 9)
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err := l.AcceptSession()
		if err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	}
}

func TestPacketConn(t *testing.T) {
	client, server, _ := testPair(t)
	saltest.TestPacketConn(t, MaxDatagram, packetPipe(t, client, server))
}

func TestPacketConnServerSide(t *testing.T) {
	client, server, _ := testPair(t)
	pipe := packetPipe(t, client, server)
	saltest.TestPacketConn(t, MaxDatagram, func() (a, b net.Conn, stop func(), err error) {
		b, a, stop, err = pipe()
		return a, b, stop, err
	})
}

func TestPacketConnInProcess(t *testing.T) {
	_, server, _ := testPair(t)
	saltest.TestPacketConn(t, MaxDatagram, packetPipe(t, server, server))
}

// TestDatagramRing compares the ring with a slice.
func TestDatagramRing(t *testing.T) {
	var r datagramRing
	var model [][]byte
	for i := range 10_000 {
		if i%7 < 4 {
			b := []byte{byte(i)}
			if r.push(b) {
				model = append(model, b)
			} else if len(model) < packetQueue {
				t.Fatal("refused below the bound")
			}
			continue
		}
		b, ok := r.pop()
		if ok != (len(model) > 0) || ok && b[0] != model[0][0] {
			t.Fatalf("step %d: got %v, %v", i, b, ok)
		}
		if ok {
			model = model[1:]
		}
	}
	if r.n != len(model) || r.bytes != len(model) {
		t.Errorf("%d datagrams, %d bytes, want %d", r.n, r.bytes, len(model))
	}
	big := datagramRing{}
	for big.push(make([]byte, MaxDatagram)) {
	}
	if big.bytes > packetBytes {
		t.Errorf("holds %d bytes", big.bytes)
	}
}
