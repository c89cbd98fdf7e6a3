package sal

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
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

// TestCloseWithError: what one side gives as the reason the other reads, in its own
// words; whichever side dialled, with another node and with itself.
func TestCloseWithError(t *testing.T) {
	client, server, _ := testPair(t)
	read := func(network string, err error) error {
		return &net.OpError{Op: "read", Net: network, Err: os.NewSyscallError("recvmsg", err)}
	}
	for _, way := range []struct {
		name     string
		from, to *Node
	}{{"remote", client, server}, {"in process", server, server}} {
		t.Run(way.name, func(t *testing.T) {
			pipe := packetPipe(t, way.from, way.to)
			for _, c := range []struct {
				give, want error
			}{
				{read("udp", syscall.ECONNREFUSED), syscall.ECONNREFUSED},
				{read("udp", syscall.EHOSTUNREACH), syscall.EHOSTUNREACH},
				{read("udp", syscall.ENETUNREACH), syscall.EHOSTUNREACH},
				{os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
				{syscall.EACCES, syscall.EACCES},
				{syscall.EMFILE, syscall.EAGAIN},
				{ErrDraining, ErrDraining},
				{syscall.ECONNRESET, syscall.ECONNRESET},
				{errors.New("unheard of"), syscall.ECONNRESET},
				{nil, io.EOF},
				{io.EOF, io.EOF},
				{net.ErrClosed, io.EOF},
			} {
				for _, dialer := range []bool{true, false} {
					a, b, stop, err := pipe()
					if err != nil {
						t.Fatal(err)
					}
					exchangePackets(t, a, b)
					closer, other := b.(*PacketConn), a
					if dialer {
						closer, other = a.(*PacketConn), b
					}
					if err := closer.CloseWithError(c.give); err != nil {
						t.Error(err)
					}
					_ = other.SetDeadline(time.Now().Add(20 * time.Second))
					for err = nil; err == nil; { // more than one may have been sent
						_, err = other.Read(make([]byte, 1))
					}
					if !errors.Is(err, c.want) {
						t.Errorf("%v by the dialer (%t): read %v, want %v", c.give, dialer, err, c.want)
					}
					wantWrite := c.want
					if errors.Is(wantWrite, io.EOF) {
						wantWrite = syscall.EPIPE
					}
					if _, err := other.Write([]byte("x")); !errors.Is(err, wantWrite) {
						t.Errorf("%v by the dialer (%t): write %v, want %v", c.give, dialer, err, wantWrite)
					}
					if _, err := closer.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("the side that closed: %v", err)
					}
					if err := closer.CloseWithError(syscall.EACCES); err != nil {
						t.Errorf("a second time: %v", err)
					}
					stop()
				}
			}
		})
	}
}

// exchangePackets sends a datagram from a to b, again as often as it is lost.
func exchangePackets(t *testing.T, a, b net.Conn) {
	t.Helper()
	var buf [1]byte
	for range 40 {
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = b.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := b.Read(buf[:]); err == nil {
			return
		}
	}
	t.Fatal("nothing arrives")
}
