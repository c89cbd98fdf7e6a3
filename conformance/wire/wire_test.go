package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"
)

// pair returns the two sides of a packet device: what is written to one is read
// from the other, one packet at a time.
func pair() (device, far *end) {
	a, b := make(chan []byte, 1024), make(chan []byte, 1024)
	closed := make(chan struct{})
	once := new(sync.Once)
	return &end{in: a, out: b, closed: closed, once: once}, &end{in: b, out: a, closed: closed, once: once}
}

type end struct {
	in, out chan []byte
	closed  chan struct{}
	once    *sync.Once
}

func (e *end) Read(b []byte) (int, error) {
	select {
	case p := <-e.in:
		return copy(b, p), nil
	case <-e.closed:
		return 0, io.EOF
	}
}

func (e *end) Write(b []byte) (int, error) {
	select {
	case e.out <- bytes.Clone(b):
		return len(b), nil
	case <-e.closed:
		return 0, io.ErrClosedPipe
	}
}

func (e *end) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

func TestWireCarriesBothWays(t *testing.T) {
	nearA, farA := pair()
	nearB, farB := pair()
	const delay = 20 * time.Millisecond
	w, err := Open(nearA, nearB, Both(1, Conditions{Delay: delay}))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	buf := make([]byte, 2000)
	for _, c := range []struct{ from, to *end }{{farA, farB}, {farB, farA}} {
		began := time.Now()
		for n := range 100 {
			if _, err := c.from.Write(numbered(n, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 100 {
			size, err := c.to.Read(buf)
			if err != nil || size != 1000 || binary.BigEndian.Uint64(buf) != uint64(n) {
				t.Fatalf("frame %d: %d bytes, number %d, %v", n, size, binary.BigEndian.Uint64(buf), err)
			}
		}
		if took := time.Since(began); took < delay {
			t.Errorf("a hundred frames crossed a %v wire in %v", delay, took)
		}
	}
	there, back := w.Counters()
	if there.Delivered != 100 || back.Delivered != 100 {
		t.Errorf("delivered %d there, %d back, want 100 each", there.Delivered, back.Delivered)
	}
	if err := w.Set(Conditions{Loss: 2}, Conditions{}); err == nil {
		t.Error("a loss of 200 % was accepted")
	}
	if err := w.Set(Conditions{Blackout: true}, Conditions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := farA.Write(numbered(0, 60)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if there, _ = w.Counters(); there.Lost == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the blackout lost %d frames, want 1", there.Lost)
		}
	}
}

func TestCloseReturnsAtOnce(t *testing.T) {
	nearA, farA := pair()
	nearB, _ := pair()
	w, err := Open(nearA, nearB, Both(1, Conditions{Delay: time.Minute}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := farA.Write(numbered(1, 60)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestOpenRefusesNonsense(t *testing.T) {
	a, _ := pair()
	b, _ := pair()
	if _, err := Open(a, b, Config{Back: Conditions{Loss: -1}}); err == nil {
		t.Error("a negative loss was accepted")
	}
}
