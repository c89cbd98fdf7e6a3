package sal

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/sal/saltest"
)

// testMeter lets through what it has credit for, and remembers the rest.
type testMeter struct {
	name    string
	refuse  error
	mu      sync.Mutex
	infos   []SessionInfo
	taken   int
	credit  int
	more    chan struct{}
	frames  chan string
	closed  int
	sendOne func([]byte)
}

func newTestMeter(name string, credit int) *testMeter {
	return &testMeter{name: name, credit: credit, more: make(chan struct{}), frames: make(chan string, 10)}
}

func (m *testMeter) Opening(SessionInfo) []byte { return []byte("open by " + m.name) }

func (m *testMeter) Accepting(SessionInfo) ([]byte, error) {
	return []byte("accept by " + m.name), m.refuse
}

func (m *testMeter) Begin(info SessionInfo, send func([]byte)) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.infos = append(m.infos, info)
	m.sendOne = send
	return (*testAccount)(m), nil
}

func (m *testMeter) first() SessionInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.infos[0]
}

func (m *testMeter) send(frame string) {
	m.mu.Lock()
	f := m.sendOne
	m.mu.Unlock()
	f([]byte(frame))
}

type testAccount testMeter

func (a *testAccount) Take(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken += n
	return a.taken <= a.credit
}

func (a *testAccount) Wait(ctx context.Context) error {
	select {
	case <-a.more:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *testAccount) Frame(b []byte) { a.frames <- string(b) }

func (a *testAccount) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed++
}

func TestMeter(t *testing.T) {
	r := &saltest.Resolver{}
	mc, ms := newTestMeter("client", 1<<30), newTestMeter("server", 2000)
	client := testNode(t, 1, r, func(c *Config) { c.Meter = mc })
	server := testNode(t, 2, r, func(c *Config) { c.Meter = ms })
	service := provide(r, 100, server)
	accepted := make(chan *Conn, 1)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		if c, err := in.Accept(); err == nil {
			accepted <- c
		}
	})
	a, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	b := <-accepted
	ic, is := mc.first(), ms.first()
	if ic.Nonce != is.Nonce || ic.Exporter != is.Exporter || ic.Exporter == [32]byte{} || ic.Nonce == [32]byte{} {
		t.Error("nonce or exporter differ")
	}
	if string(is.Opening) != "open by client" || string(ic.Accepting) != "accept by server" {
		t.Errorf("extensions %q, %q", is.Opening, ic.Accepting)
	}
	if ic.Peer != server.ID() || is.Peer != client.ID() || !ic.Initiator || is.Initiator || ic.Service != service || is.Port != 80 {
		t.Errorf("infos %+v, %+v", ic, is)
	}
	eventually(t, "a frame each way", func() bool {
		mc.send("voucher")
		ms.send("receipt")
		select {
		case f := <-ms.frames:
			return f == "voucher" && <-mc.frames == "receipt"
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	for len(mc.frames)+len(ms.frames) > 0 {
		select {
		case <-mc.frames:
		case <-ms.frames:
		}
	}

	// The server has credit for 2000 bytes and then waits for more.
	if _, err := a.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(b, make([]byte, 3000))
		done <- err
	}()
	select {
	case <-done:
		t.Error("read beyond the credit")
	case <-time.After(100 * time.Millisecond):
	}
	close(ms.more)
	if err := <-done; err != nil {
		t.Errorf("after more credit: %v", err)
	}
	a.Close()
	b.Close()
	mc.mu.Lock()
	defer mc.mu.Unlock()
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if mc.closed != 1 || ms.closed != 1 || mc.taken != 3000 {
		t.Errorf("closed %d and %d times, client counted %d", mc.closed, ms.closed, mc.taken)
	}
}

func TestMeterRefuses(t *testing.T) {
	r := &saltest.Resolver{}
	ms := newTestMeter("server", 0)
	ms.refuse = syscall.EACCES
	client := testNode(t, 1, r)
	server := testNode(t, 2, r, func(c *Config) { c.Meter = ms })
	service := provide(r, 100, server)
	server.Handle(service, echo)
	if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80); !errors.Is(err, ErrNotAuthorized) {
		t.Errorf("refused by the meter: %v", err)
	}
}
