package sal

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/saltest"
)

// testMeter lets through what it has credit for, and remembers the rest.
type testMeter struct {
	name    string
	refuse  error
	mu      sync.Mutex
	infos   []SessionInfo
	taken   int
	by      [2]int // taken, by direction
	dropped int
	begin   error // what Begin returns
	fault   error // what Wait returns
	letters chan string
	credit  int
	more    chan struct{}
	frames  chan string
	closed  int
	sendOne func([]byte)
}

func newTestMeter(name string, credit int) *testMeter {
	return &testMeter{name: name, credit: credit, more: make(chan struct{}), frames: make(chan string, 10), letters: make(chan string, 10)}
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
	if m.begin != nil {
		return nil, m.begin
	}
	return (*testAccount)(m), nil
}

func (m *testMeter) Frame(peer identity.NodeID, b []byte) {
	m.letters <- peer.Short() + " " + string(b)
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

func (a *testAccount) Take(d Direction, n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.taken+n > a.credit {
		return false
	}
	a.taken += n
	a.by[d] += n
	return true
}

func (a *testAccount) Return(d Direction, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken -= n
	a.by[d] -= n
}

func (a *testAccount) Drop(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropped += n
}

// give raises the credit and wakes whoever waits.
func (a *testAccount) give(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.credit += n
	close(a.more)
	a.more = make(chan struct{})
}

func (a *testAccount) Wait(ctx context.Context, n int) error {
	for {
		a.mu.Lock()
		ok, more, fault := a.taken+n <= a.credit, a.more, a.fault
		a.mu.Unlock()
		switch {
		case fault != nil:
			return fault
		case ok:
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
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
	(*testAccount)(ms).give(1 << 20)
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

// meteredPair opens one stream session whose server has the given credit.
func meteredPair(t *testing.T, credit int) (a, b *Conn, mc, ms *testMeter) {
	t.Helper()
	r := &saltest.Resolver{}
	mc, ms = newTestMeter("client", 1<<40), newTestMeter("server", credit)
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
	return a, <-accepted, mc, ms
}

// A writer whose credit is short sends in pieces, as each is paid for: waiting for all
// of it would wait for ever, for what was not delivered is not paid.
func TestMeterPausesInPieces(t *testing.T) {
	a, b, _, ms := meteredPair(t, 40<<10)
	done := make(chan error, 1)
	go func() {
		_, err := b.Write(make([]byte, 200<<10))
		done <- err
	}()
	for got := 0; got < 200<<10; {
		n, err := a.Read(make([]byte, 4<<10))
		if err != nil {
			t.Fatal(err)
		}
		got += n
		(*testAccount)(ms).give(n) // paid
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if ms.by[Sent] != 200<<10 || ms.by[Received] != 0 {
		t.Errorf("counted %v", ms.by)
	}
}

// Deadlines and closing end a wait for credit.
func TestMeterWaitEnds(t *testing.T) {
	_, b, _, _ := meteredPair(t, 0)
	_ = b.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := b.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	_ = b.SetWriteDeadline(time.Time{})
	done := make(chan error, 1)
	go func() {
		_, err := b.Write([]byte("x"))
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	closed := make(chan struct{})
	go func() { b.Close(); close(closed) }()
	for range 2 {
		select {
		case <-closed:
			closed = nil
		case err := <-done:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed while waiting: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("Close or Write hangs")
		}
	}
}

// What the meter ends a session for reaches both ends as a typed error.
func TestMeterEndsSession(t *testing.T) {
	a, b, _, ms := meteredPair(t, 0)
	ms.fault = ErrPayment
	if _, err := b.Write([]byte("x")); !errors.Is(err, ErrPayment) {
		t.Errorf("the provider got %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, ErrPayment) {
		t.Errorf("the client got %v", err)
	}
	a, b, mc, _ := meteredPair(t, 1<<20)
	mc.first().End(ErrPayment)
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrPayment) {
		t.Errorf("ended by the client's meter: the provider got %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the client's session goes on")
	}
	if rtt := mc.first().RTT(); rtt <= 0 {
		t.Errorf("a round trip of %s", rtt)
	}
}

// The dialer hears what its own meter refuses, before it believes to be connected.
func TestMeterRefusesDialer(t *testing.T) {
	r := &saltest.Resolver{}
	mc := newTestMeter("client", 0)
	mc.begin = &failure{"too dear", []error{syscall.ECONNREFUSED}}
	client := testNode(t, 1, r, func(c *Config) { c.Meter = mc })
	server := testNode(t, 2, r)
	service := provide(r, 100, server)
	server.Handle(service, echo)
	if _, err := client.Dial(timeoutContext(t, 20*time.Second), service, 80); !errors.Is(err, mc.begin) {
		t.Errorf("dialled: %v", err)
	}
	c, err := client.DialEarly(timeoutContext(t, 20*time.Second), service, 80)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, mc.begin) {
		t.Errorf("dialled early: %v", err)
	}
}

// What is written before the answer is counted once the account begins, and frames
// between nodes need no session.
func TestMeterEarlyAndFrames(t *testing.T) {
	a, b, mc, ms := meteredPair(t, 1<<20)
	early, err := a.node.DialEarly(timeoutContext(t, 20*time.Second), a.info.Service, 80)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := early.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := early.Accepted(timeoutContext(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	mc.mu.Lock()
	if mc.by[Sent] != 1000 {
		t.Errorf("%d early bytes counted", mc.by[Sent])
	}
	mc.mu.Unlock()
	early.Close()
	a.Close()
	b.Close()
	eventually(t, "a frame", func() bool {
		if !a.node.SendFrame(b.node.ID(), []byte("late")) {
			return false
		}
		select {
		case f := <-ms.letters:
			return f == a.node.ID().Short()+" late"
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	if a.node.SendFrame(b.node.ID(), make([]byte, MaxFrame+1)) || a.node.SendFrame(identity.NodeID{1}, nil) {
		t.Error("sent what cannot be")
	}
}

// Datagrams without credit are dropped and counted at either end; the session goes on.
func TestMeterDropsDatagrams(t *testing.T) {
	r := &saltest.Resolver{}
	mc, ms := newTestMeter("client", 1<<40), newTestMeter("server", 0)
	client := testNode(t, 1, r, func(c *Config) { c.Meter = mc })
	server := testNode(t, 2, r, func(c *Config) { c.Meter = ms })
	service := provide(r, 100, server)
	accepted := make(chan *PacketConn, 1)
	server.Handle(service, func(_ context.Context, in *Incoming) {
		if c, err := in.AcceptPacket(); err == nil {
			accepted <- c
		}
	})
	a, err := client.DialPacket(timeoutContext(t, 20*time.Second), service, 80)
	if err != nil {
		t.Fatal(err)
	}
	b := <-accepted
	if _, err := b.Write(make([]byte, 100)); err != nil {
		t.Errorf("a datagram that is dropped: %v", err)
	}
	if err := b.TryWrite(make([]byte, 100)); !errors.Is(err, ErrFull) {
		t.Errorf("TryWrite without credit: %v", err)
	}
	got := make(chan []byte, 1)
	go func() {
		if p, err := b.ReadDatagram(); err == nil {
			got <- p
		}
	}()
	eventually(t, "an unpaid datagram is dropped at the receiver", func() bool {
		_, _ = a.Write([]byte("unpaid"))
		return server.Metrics().DatagramsUnpaid >= 3
	})
	(*testAccount)(ms).give(1 << 20)
	eventually(t, "a datagram that is paid for", func() bool {
		_, _ = a.Write([]byte("paid"))
		select {
		case <-got:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.dropped < 206 || ms.by[Sent] != 0 {
		t.Errorf("dropped %d bytes, counted %v", ms.dropped, ms.by)
	}
}
