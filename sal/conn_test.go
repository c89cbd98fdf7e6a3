package sal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// connPipe opens one session between two nodes, or of one node with itself.
func connPipe(t testing.TB, from, to *Node) nettest.MakePipe {
	service := to.id
	l, err := to.Listen(identity.ServiceOf(to.id), 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func() (c1, c2 net.Conn, stop func(), err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c1, err = from.DialNode(ctx, service, 7)
		if err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		if err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	}
}

func TestConn(t *testing.T) {
	client, server, _ := testPair(t)
	nettest.TestConn(t, connPipe(t, client, server))
}

func TestConnServerSide(t *testing.T) {
	client, server, _ := testPair(t)
	pipe := connPipe(t, client, server)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c2, c1, stop, err = pipe()
		return c1, c2, stop, err
	})
}

func TestConnInProcess(t *testing.T) {
	_, server, _ := testPair(t)
	nettest.TestConn(t, connPipe(t, server, server))
}

// twoEnds opens a session over the network and in process.
func twoEnds(t *testing.T, f func(t *testing.T, a, b *Conn)) {
	client, server, _ := testPair(t)
	for name, from := range map[string]*Node{"network": client, "process": server} {
		t.Run(name, func(t *testing.T) {
			a, b, stop, err := connPipe(t, from, server)()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			f(t, a.(*Conn), b.(*Conn))
		})
	}
}

func TestHalfClose(t *testing.T) {
	twoEnds(t, func(t *testing.T, a, b *Conn) {
		if _, err := a.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || string(got) != "question" {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, err := a.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v, want EPIPE", err)
		}
		if _, err := b.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		b.Close()
		got, err = io.ReadAll(a)
		if err != nil || string(got) != "answer" {
			t.Fatalf("read %q, %v", got, err)
		}
	})
}

func TestReset(t *testing.T) {
	for _, fromDialer := range []bool{true, false} {
		twoEnds(t, func(t *testing.T, a, b *Conn) {
			if !fromDialer {
				a, b = b, a
			}
			if err := a.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			a.Close()
			_ = b.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read after RST: %v, want ECONNRESET", err)
			}
			var err error
			for range 1000 {
				if _, err = b.Write(make([]byte, 1000)); err != nil {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("write after RST: %v, want ECONNRESET", err)
			}
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after Close: %v, want net.ErrClosed", err)
			}
		})
	}
}

func TestCloseRead(t *testing.T) {
	twoEnds(t, func(t *testing.T, a, b *Conn) {
		if err := a.CloseRead(); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read after CloseRead: %d, %v, want EOF", n, err)
		}
		var err error
		for range 1000 {
			if _, err = b.Write(make([]byte, 1000)); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("peer's write: %v, want EPIPE", err)
		}
		if _, err := a.Write([]byte("still")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "still" {
			t.Errorf("other direction: %q, %v", got, err)
		}
	})
}

func TestAddresses(t *testing.T) {
	client, server, service := testPair(t)
	c, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, want := c.RemoteAddr(), (Addr{Node: server.ID(), Service: service, Port: 80}); got != want {
		t.Errorf("remote %v, want %v", got, want)
	}
	if got, want := c.LocalAddr(), (Addr{Node: client.ID()}); got != want {
		t.Errorf("local %v, want %v", got, want)
	}
	if got := c.RemoteAddr().String(); got != service.String()+":80@"+server.ID().String() {
		t.Errorf("text %s", got)
	}
}

// TestSplice carries bytes of every awkward length through io.Copy on both sides.
func TestSplice(t *testing.T) {
	twoEnds(t, func(t *testing.T, a, b *Conn) {
		data := make([]byte, 3<<20+17)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		sum := make(chan [32]byte, 1)
		go func() {
			h := sha256.New()
			_, _ = b.WriteTo(h)
			sum <- [32]byte(h.Sum(nil))
		}()
		n, err := a.ReadFrom(&chunkReader{data: data, random: random})
		if err != nil || n != int64(len(data)) {
			t.Fatalf("ReadFrom %d, %v", n, err)
		}
		a.CloseWrite()
		if got := <-sum; got != sha256.Sum256(data) {
			t.Error("bytes differ")
		}
	})
}

type chunkReader struct {
	data   []byte
	random *rand.Rand
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := min(1+r.random.IntN(200_000), len(p), len(r.data))
	copy(p, r.data[:n])
	r.data = r.data[n:]
	return n, nil
}

// TestDataPathDoesNotAllocate holds for a session in its course.
func TestDataPathDoesNotAllocate(t *testing.T) {
	client, server, _ := testPair(t)
	a, b, stop, err := connPipe(t, server, server)()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_ = client
	buf := make([]byte, 1000)
	got := make([]byte, 1000)
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := a.Write(buf); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(b, got); err != nil {
			t.Error(err)
		}
	})
	// The pipe itself makes a channel for each change; the session nothing.
	if allocs > 3 {
		t.Errorf("%v allocations for a write and a read", allocs)
	}
	if !bytes.Equal(buf, got) {
		t.Error("bytes differ")
	}
}

func TestWrongProtocol(t *testing.T) {
	client, server, service := testPair(t)
	errs := make(chan error, 1)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		if in.Protocol == record.TCP {
			_, err := in.AcceptPacket()
			errs <- err
		}
	})
	_, err := client.Dial(timeoutContext(t, 20*time.Second), service, 1)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	if err := <-errs; !errors.Is(err, ErrBadRequest) {
		t.Errorf("AcceptPacket of a stream: %v", err)
	}
}
