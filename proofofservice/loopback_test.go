package proofofservice

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// provider is a real server on a loopback port. Its sessions are TCP connections
// that begin with the nonce; what follows is HTTP.
type provider struct {
	evidence.Provider
	key     identity.PrivateKey
	network identity.NetworkID
	file    []byte
	content Content

	listener net.Listener
	server   http.Server
	wg       sync.WaitGroup
	byNonce  sync.Map // nonce → *tally

	// How it behaves.
	alter, unsigned, vanish atomic.Bool  // vanish: nothing is accepted after the first reset
	delay                   atomic.Int64 // before each answer
	cutAfter                atomic.Int64 // answers until a connection is reset; 0 is never
	cuts                    atomic.Int64 // how many connections are reset
	ask, demand             voucher.Price
}

// tally is what one session carried.
type tally struct {
	sent, received, answers atomic.Int64
	begun                   time.Time
}

type nonceKey struct{}

func newProvider(t *testing.T, class evidence.Class) *provider {
	t.Helper()
	p := &provider{key: identity.NewKeyFromSeed([32]byte{7, byte(class)}), network: identity.NetworkID{1}, file: make([]byte, 300_000)}
	if _, err := rand.Read(p.file); err != nil {
		t.Fatal(err)
	}
	p.Provider = evidence.Provider{Service: identity.ServiceID{9}, Node: p.key.Node(), Kinds: evidence.AllKinds, Class: class}
	leaves := Leaves(p.file, 16<<10)
	p.content = Content{Port: 80, Host: "files.test", Path: "/file", Size: int64(len(p.file)), Block: 16 << 10, Root: evidence.MerkleRoot(leaves), Leaves: leaves}
	if err := p.content.Validate(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.listener = listener
	p.server.Handler = http.HandlerFunc(p.serve)
	p.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, nonceKey{}, c.(*served))
	}
	p.wg.Go(func() { _ = p.server.Serve(acceptor{listener, p}) })
	t.Cleanup(func() {
		_ = p.server.Close()
		p.wg.Wait()
	})
	return p
}

// acceptor reads the nonce of every connection.
type acceptor struct {
	net.Listener
	p *provider
}

func (a acceptor) Accept() (net.Conn, error) {
	for {
		c, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var nonce [32]byte
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(c, nonce[:]); err != nil {
			c.Close()
			continue
		}
		_ = c.SetReadDeadline(time.Time{})
		s := &served{Conn: c, tally: &tally{begun: time.Now()}}
		a.p.byNonce.Store(nonce, s.tally)
		return s, nil
	}
}

type served struct {
	net.Conn
	*tally
}

func (s *served) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.received.Add(int64(n))
	return n, err
}

func (s *served) Write(b []byte) (int, error) {
	s.sent.Add(int64(len(b))) // before: the client may have all of it before Write returns
	return s.Conn.Write(b)
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	s := r.Context().Value(nonceKey{}).(*served)
	if after := p.cutAfter.Load(); after > 0 && s.answers.Add(1) > after && p.cuts.Add(-1) >= 0 {
		_ = s.Conn.(*net.TCPConn).SetLinger(0)
		if p.vanish.Load() {
			p.listener.Close()
		}
		s.Close()
		return
	}
	time.Sleep(time.Duration(p.delay.Load()))
	file := p.file
	if p.alter.Load() {
		file = bytes.Clone(file)
		for i := 100; i < len(file); i += 4096 {
			file[i] ^= 1
		}
	}
	if r.URL.Path != "/file" || r.Host != "files.test" {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(file))
}

// Dial, Content, Nodes and Reach make the provider's address a dialer, a catalog and
// anchors for tests.
func (p *provider) Dial(ctx context.Context, t Target) (Session, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", p.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(t.Nonce[:]); err != nil {
		c.Close()
		return nil, err
	}
	return &session{c, p, t}, nil
}

func (p *provider) Content(context.Context, identity.ServiceID) (Content, bool, error) {
	return p.content, true, nil
}

type session struct {
	net.Conn
	p      *provider
	target Target
}

func (s *session) Receipt(ctx context.Context) (voucher.Receipt, error) {
	_ = s.Conn.(*net.TCPConn).CloseWrite()
	if s.p.unsigned.Load() {
		<-ctx.Done()
		return voucher.Receipt{}, ctx.Err()
	}
	v, ok := s.p.byNonce.Load(s.target.Nonce)
	if !ok {
		return voucher.Receipt{}, errors.New("no such session")
	}
	y := v.(*tally)
	r := voucher.Receipt{
		Service: s.target.Service, Nonce: s.target.Nonce, Sequence: 1, Sent: uint64(y.sent.Load()),
		Received: uint64(y.received.Load()), Duration: uint64(time.Since(y.begun).Milliseconds()), Final: true,
	}
	r.Sign(s.p.key, s.p.network)
	return r, nil
}

func (s *session) Bill() Bill {
	return Bill{Asked: s.p.ask, Demanded: s.p.demand, Paid: 0, Bytes: 1000, Milliseconds: 10}
}

// anchorsAt are TCP servers.
type anchorsAt []net.Addr

func (a anchorsAt) Nodes() []identity.NodeID {
	nodes := make([]identity.NodeID, len(a))
	for i := range nodes {
		nodes[i] = identity.NodeID{byte(i)}
	}
	return nodes
}

func (a anchorsAt) Reach(ctx context.Context, n identity.NodeID) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", a[n[0]].String())
	if err != nil {
		return err
	}
	return c.Close()
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr()
}

func shopper(t *testing.T, p *provider, anchors Anchors) *Shopper {
	t.Helper()
	s, err := NewShopper(p, p, anchors, ShopperConfig{
		Timeout: 2 * time.Second, Hold: time.Second, Interval: 20 * time.Millisecond, ControlTimeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func visitOf(p *provider, kind evidence.Kind) Visit {
	return Visit{
		Epoch: 1, Planned: evidence.Row{Kind: kind, Size: 256 << 10, Leaf: 1 << 40}, Provider: p.Provider,
		Nonce: [32]byte{1}, Second: [32]byte{2}, Until: time.Now().Add(20 * time.Second),
	}
}

// Every kind of probe against a real server: honest, and not.
func TestVisitsOverLoopback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		class  evidence.Class
		kind   evidence.Kind
		behave func(p *provider)
		want   evidence.Verdict
		check  func(s Sighting) bool
	}{
		{"reach", evidence.Fixed, evidence.Reach, nil, evidence.Pass, nil},
		{"latency", evidence.Fixed, evidence.Latency, func(p *provider) { p.delay.Store(int64(30 * time.Millisecond)) }, evidence.Pass, func(s Sighting) bool {
			return s.Latency >= 30*time.Millisecond && s.Latency < 2*time.Second
		}},
		{"throughput", evidence.Fixed, evidence.Throughput, nil, evidence.Pass, func(s Sighting) bool {
			return s.Bytes >= 256<<10 && s.Bytes < 320<<10 && s.Rate > 1<<20
		}},
		{"correctness", evidence.Fixed, evidence.Correctness, nil, evidence.Pass, nil},
		{"mobility", evidence.Fixed, evidence.Mobility, nil, evidence.Pass, func(s Sighting) bool { return s.Gap < 2*time.Second && s.Bytes > piece }},
		{"price", evidence.Fixed, evidence.Price, func(p *provider) { p.ask.PerGiB, p.demand.PerGiB = 5, 5 }, evidence.Pass, nil},
		{"altered, correctness", evidence.Fixed, evidence.Correctness, func(p *provider) { p.alter.Store(true) }, evidence.Wrong, nil},
		{"altered, throughput", evidence.Fixed, evidence.Throughput, func(p *provider) { p.alter.Store(true) }, evidence.Broken, nil},
		{"altered, reach", evidence.Fixed, evidence.Reach, func(p *provider) { p.alter.Store(true) }, evidence.Pass, nil},
		{"overcharged", evidence.Fixed, evidence.Price, func(p *provider) { p.ask.PerGiB, p.demand.PerGiB = 5, 6 }, evidence.Overcharged, nil},
		{"unsigned", evidence.Fixed, evidence.Reach, func(p *provider) { p.unsigned.Store(true) }, evidence.Broken, nil},
		{"dead", evidence.Fixed, evidence.Reach, func(p *provider) { p.listener.Close() }, evidence.Absent, nil},
		{"answers nothing", evidence.Fixed, evidence.Reach, func(p *provider) { p.delay.Store(int64(4 * time.Second)) }, evidence.Broken, nil},
		{"dies at once", evidence.Fixed, evidence.Throughput, func(p *provider) { p.cutAfter.Store(1); p.cuts.Store(100); p.file = p.file[:20_000]; cutContent(p) }, evidence.Broken, nil},
		{"fixed, moves", evidence.Fixed, evidence.Mobility, func(p *provider) { p.cutAfter.Store(1); p.cuts.Store(1) }, evidence.Broken, nil},
		{"mobile, moves", evidence.Mobile, evidence.Mobility, func(p *provider) { p.cutAfter.Store(1); p.cuts.Store(1) }, evidence.Pass, func(s Sighting) bool {
			return s.Again && s.Gap > 0 && s.Receipt.Nonce == [32]byte{2}
		}},
		{"mobile, does not come back", evidence.Mobile, evidence.Mobility, func(p *provider) { p.cutAfter.Store(1); p.cuts.Store(1); p.vanish.Store(true) }, evidence.Broken, func(s Sighting) bool { return !s.Again }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, c.class)
			good := newProvider(t, evidence.Fixed)
			if c.behave != nil {
				c.behave(p)
			}
			v := visitOf(p, c.kind)
			seen := shopper(t, p, anchorsAt{closedPort(t), good.listener.Addr()}).Visit(t.Context(), v)
			if seen.Verdict != c.want || c.check != nil && !c.check(seen) {
				t.Errorf("%+v, want %s", seen, c.want)
			}
			if seen.Verdict.Failed() != (seen.Control == Worked) {
				t.Errorf("%s, and the control %d", seen.Verdict, seen.Control)
			}
			if r := seen.Receipt; seen.Verdict == evidence.Pass && (r == nil || !r.Verify(p.network) || r.Node != p.Node || !seen.Again && r.Nonce != v.Nonce) {
				t.Errorf("the receipt is %+v", r)
			}
			if seen.End.Before(seen.Start) {
				t.Error("it ends before it begins")
			}
		})
	}
}

// cutContent makes the content what is left of the file.
func cutContent(p *provider) {
	leaves := Leaves(p.file, 16<<10)
	p.content.Size, p.content.Leaves, p.content.Root = int64(len(p.file)), leaves, evidence.MerkleRoot(leaves)
}

// An inspector whose own uplink fails harms nobody.
func TestControlSilent(t *testing.T) {
	t.Parallel()
	p := newProvider(t, evidence.Fixed)
	p.listener.Close()
	seen := shopper(t, p, anchorsAt{closedPort(t), closedPort(t)}).Visit(t.Context(), visitOf(p, evidence.Reach))
	if seen.Verdict != evidence.Absent || seen.Control != Silent {
		t.Errorf("%+v", seen)
	}
	if seen = shopper(t, p, anchorsAt{}).Visit(t.Context(), visitOf(p, evidence.Reach)); seen.Control != Silent {
		t.Errorf("without anchors: %+v", seen)
	}
}

// dialerOf answers every dial with an error.
type dialerOf struct{ err error }

func (d dialerOf) Dial(context.Context, Target) (Session, error) { return nil, d.err }

func TestOwnTroubles(t *testing.T) {
	t.Parallel()
	p := newProvider(t, evidence.Fixed)
	for err, want := range map[error]evidence.Reason{ErrCarrier: evidence.Carrier, ErrFunds: evidence.Funds} {
		s, bad := NewShopper(dialerOf{err}, p, anchorsAt{}, ShopperConfig{})
		if bad != nil {
			t.Fatal(bad)
		}
		if seen := s.Visit(t.Context(), visitOf(p, evidence.Reach)); seen.Verdict != evidence.Void || seen.Reason != want || seen.Control != NotAsked {
			t.Errorf("%v: %+v", err, seen)
		}
	}
}

func TestContentValidate(t *testing.T) {
	p := newProvider(t, evidence.Fixed)
	for name, spoil := range map[string]func(c *Content){
		"port":    func(c *Content) { c.Port = 0 },
		"path":    func(c *Content) { c.Path = "file" },
		"block":   func(c *Content) { c.Block = MaxBlock + 1 },
		"size":    func(c *Content) { c.Size = 0 },
		"leaves":  func(c *Content) { c.Leaves = c.Leaves[1:] },
		"a leaf":  func(c *Content) { c.Leaves = Leaves(make([]byte, len(p.file)), 16<<10) },
		"a root":  func(c *Content) { c.Root[0]++ },
		"no leaf": func(c *Content) { c.Leaves = nil },
	} {
		c := p.content
		spoil(&c)
		if err := c.Validate(); !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShopperConfig(t *testing.T) {
	if err := (ShopperConfig{}).Validate(); err != nil {
		t.Error(err)
	}
	bad := ShopperConfig{Timeout: time.Hour, Hold: time.Hour, Interval: 2 * time.Hour, ControlTimeout: time.Minute}
	if _, err := NewShopper(nil, nil, nil, bad); err == nil {
		t.Error("a bad configuration is taken")
	}
}
