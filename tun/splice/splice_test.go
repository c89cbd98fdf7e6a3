package splice

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a TCP connection over loopback.
func pair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := l.Accept(); err == nil {
			b = c.(*net.TCPConn)
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	wg.Wait()
	if err != nil || b == nil {
		tb.Fatal(err)
	}
	a = c.(*net.TCPConn)
	for _, c := range []*net.TCPConn{a, b} {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		tb.Cleanup(func() { c.Close() })
	}
	return a, b
}

// hidden is a stream that is no *net.TCPConn.
type hidden struct {
	net.Conn
	tcp *net.TCPConn
}

func (c hidden) CloseWrite() error       { return c.tcp.CloseWrite() }
func (c hidden) SetLinger(sec int) error { return c.tcp.SetLinger(sec) }

// joined is left ── a:Both:b ── right.
type joined struct {
	left, right *net.TCPConn
	buffers     *Buffers
	cancel      context.CancelCauseFunc
	wg          sync.WaitGroup
	res         Result
	err         error
}

func join(t *testing.T, hide bool, limit int64) *joined {
	t.Helper()
	left, a := pair(t)
	b, right := pair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	j := &joined{left: left, right: right, buffers: NewBuffers(limit), cancel: cancel}
	var bc net.Conn = b
	if hide {
		bc = hidden{b, b}
	}
	j.wg.Go(func() { j.res, j.err = Both(ctx, a, bc, j.buffers) })
	t.Cleanup(func() {
		cancel(nil)
		j.wg.Wait()
		if n := j.buffers.InUse(); n != 0 {
			t.Errorf("%d bytes of buffers are out", n)
		}
	})
	return j
}

func TestBothCarriesBytesAndEnds(t *testing.T) {
	for _, hide := range []bool{false, true} {
		for _, limit := range []int64{0, Large, 64 << 20} {
			j := join(t, hide, limit)
			data := make([]byte, 5<<20)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			var wg sync.WaitGroup
			transfer := func(from, to *net.TCPConn) {
				wg.Go(func() {
					_, err := from.Write(data)
					if err := errors.Join(err, from.CloseWrite()); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			transfer(j.left, j.right)
			transfer(j.right, j.left)
			wg.Wait()
			j.wg.Wait()
			if want := int64(len(data)); j.err != nil || j.res.AToB != want || j.res.BToA != want {
				t.Errorf("%+v, %v", j.res, j.err)
			}
		}
	}
}

func TestHalfCloseGoesOn(t *testing.T) {
	for _, hide := range []bool{false, true} {
		j := join(t, hide, 1<<20)
		if err := j.left.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.right.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := j.right.Write([]byte("still here")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(j.left, make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
		}
		j.right.Close()
		if _, err := j.left.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		j.wg.Wait()
		if j.err != nil {
			t.Error(j.err)
		}
	}
}

func TestResetIsCarried(t *testing.T) {
	for _, hide := range []bool{false, true} {
		for _, fromLeft := range []bool{true, false} {
			j := join(t, hide, 1<<20)
			from, to := j.left, j.right
			if !fromLeft {
				from, to = to, from
			}
			if _, err := from.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			_ = from.SetLinger(0)
			from.Close()
			if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("hide=%v left=%v: %v", hide, fromLeft, err)
			}
			j.wg.Wait()
			if !errors.Is(j.err, syscall.ECONNRESET) {
				t.Errorf("Both returned %v", j.err)
			}
		}
	}
}

// selfCopying is a stream that copies itself, as the overlay's sessions do.
type selfCopying struct{ hidden }

func (c selfCopying) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c.tcp})
}

func TestWriterTo(t *testing.T) {
	left, a := pair(t)
	b, right := pair(t)
	var wg sync.WaitGroup
	var res Result
	var err error
	wg.Go(func() { res, err = Both(t.Context(), a, selfCopying{hidden{b, b}}, NewBuffers(0)) })
	_, _ = right.Write([]byte("hello"))
	_ = right.CloseWrite()
	if got, err := io.ReadAll(left); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	_ = left.SetLinger(0)
	left.Close()
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	wg.Wait()
	if !errors.Is(err, syscall.ECONNRESET) || res.BToA != 5 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestContextResetsBoth(t *testing.T) {
	j := join(t, true, 1<<20)
	cause := errors.New("enough")
	j.cancel(cause)
	for _, c := range []*net.TCPConn{j.left, j.right} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	j.wg.Wait()
	if !errors.Is(j.err, cause) {
		t.Error(j.err)
	}
}

func TestConnWithoutHalfClose(t *testing.T) {
	left, a := pair(t)
	b, right := net.Pipe()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { _, err = Both(t.Context(), a, b, NewBuffers(0)) })
	if _, err := left.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(right, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_ = left.CloseWrite()
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
}

func TestIdleConnectionsHoldNoLargeBuffer(t *testing.T) {
	j := join(t, true, 64<<20)
	big := make([]byte, 4<<20)
	for range 2 {
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = j.right.Write(big) })
		wg.Go(func() { _, _ = j.left.Write(big) })
		wg.Go(func() { _, _ = io.ReadFull(j.left, make([]byte, len(big))) })
		_, _ = io.ReadFull(j.right, make([]byte, len(big)))
		wg.Wait()
	}
	for range shrinkAfter + 1 {
		_, _ = j.right.Write([]byte("x"))
		_, _ = io.ReadFull(j.left, make([]byte, 1))
	}
	deadline := time.Now().Add(5 * time.Second)
	for j.buffers.InUse() != 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := j.buffers.InUse(); n != 0 {
		t.Errorf("an idle pair holds %d bytes", n)
	}
}

func TestBuffersAreBounded(t *testing.T) {
	b := NewBuffers(2*Large + 1)
	var out [][]byte
	for range 4 {
		out = append(out, b.get(true))
	}
	if len(out[0]) != Large || len(out[1]) != Large || len(out[2]) != small || b.InUse() != 2*Large {
		t.Fatal(len(out[2]), b.InUse())
	}
	for _, x := range out {
		b.put(x)
	}
	if b.InUse() != 0 {
		t.Fatal(b.InUse())
	}
}
