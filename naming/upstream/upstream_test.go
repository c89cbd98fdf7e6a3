package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/message"
)

// server is a DNS server on a loopback port whose answers a test decides.
type fakeServer struct {
	addr netip.AddrPort

	mu      sync.Mutex
	names   []string // as asked, in their case
	handler func(w dns.ResponseWriter, m *dns.Msg)
}

func newServer(t testing.TB, handler func(w dns.ResponseWriter, m *dns.Msg)) *fakeServer {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", c.LocalAddr().String())
	if err != nil {
		t.Skipf("the TCP port beside the UDP port is taken: %v", err)
	}
	s := &fakeServer{addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), handler: handler}
	for _, ds := range []*dns.Server{{PacketConn: c, Handler: s}, {Listener: l, Handler: s}} {
		started, done := make(chan struct{}), make(chan struct{})
		ds.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = ds.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = ds.Shutdown()
			<-done
		})
	}
	return s
}

func (s *fakeServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	s.mu.Lock()
	s.names = append(s.names, m.Question[0].Name)
	s.mu.Unlock()
	s.handler(w, m)
}

func (s *fakeServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

func udp(w dns.ResponseWriter) bool { return w.LocalAddr().Network() == "udp" }

// address answers one A record.
func address(ip string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		rr, err := dns.NewRR(m.Question[0].Name + " 60 IN A " + ip)
		if err != nil {
			return
		}
		r.Answer = []dns.RR{rr}
		if m.IsEdns0() != nil {
			r.SetEdns0(1232, false)
		}
		_ = w.WriteMsg(r)
	}
}

func rcode(code int) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetRcode(m, code)
		if o := m.IsEdns0(); o != nil {
			r.SetEdns0(1232, false)
			r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 22, ExtraText: "upstream's reason"}}
		}
		_ = w.WriteMsg(r)
	}
}

func silent(dns.ResponseWriter, *dns.Msg) {}

func newForwarder(t testing.TB, cfg Config, servers ...*fakeServer) *Forwarder {
	t.Helper()
	for _, s := range servers {
		cfg.Servers = append(cfg.Servers, s.addr)
	}
	if cfg.Stagger == 0 {
		cfg.Stagger = 50 * time.Millisecond
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ask(t testing.TB, f *Forwarder, host string, typ uint16) (*dns.Msg, error) {
	t.Helper()
	m := new(dns.Msg).SetQuestion(host, typ)
	m.SetEdns0(1232, false)
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Exchange(t.Context(), packed)
	if err != nil {
		return nil, err
	}
	a := new(dns.Msg)
	if err := a.Unpack(b); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if a.Id != m.Id || a.Question[0] != m.Question[0] || !a.Response {
		t.Fatalf("%v answered by %v", m, a)
	}
	return a, nil
}

func TestExchange(t *testing.T) {
	s := newServer(t, address("192.0.2.1"))
	f := newForwarder(t, Config{}, s)
	for range 8 {
		a, err := ask(t, f, "www.Example.com.", dns.TypeA)
		if err != nil || len(a.Answer) != 1 || a.Answer[0].Header().Name != "www.Example.com." {
			t.Fatalf("%v, %v", a, err)
		}
	}
	names := s.asked()
	slices.Sort(names)
	if len(slices.Compact(names)) < 6 {
		t.Errorf("the case hardly varies: %q", names)
	}
}

func TestFailover(t *testing.T) {
	refused := newServer(t, silent)
	dead, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closed := dead.LocalAddr().(*net.UDPAddr).AddrPort()
	dead.Close()
	for _, tt := range []struct {
		name  string
		first func(dns.ResponseWriter, *dns.Msg)
	}{
		{"silent", silent},
		{"SERVFAIL", rcode(dns.RcodeServerFailure)},
		{"REFUSED", rcode(dns.RcodeRefused)},
		{"garbage", func(w dns.ResponseWriter, _ *dns.Msg) { _, _ = w.Write([]byte("nonsense, not DNS")) }},
		{"another question", func(w dns.ResponseWriter, m *dns.Msg) {
			m.Question[0].Name = "evil." + m.Question[0].Name
			address("203.0.113.1")(w, m)
		}},
		{"another ID", func(w dns.ResponseWriter, m *dns.Msg) { m.Id++; address("203.0.113.1")(w, m) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newForwarder(t, Config{}, newServer(t, tt.first), newServer(t, address("192.0.2.2")))
			a, err := ask(t, f, "example.com.", dns.TypeA)
			if err != nil || len(a.Answer) != 1 || a.Answer[0].(*dns.A).A.String() != "192.0.2.2" {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	t.Run("closed port", func(t *testing.T) {
		f := newForwarder(t, Config{Servers: []netip.AddrPort{closed}, Stagger: time.Hour}, newServer(t, address("192.0.2.2")))
		if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || len(a.Answer) != 1 {
			t.Errorf("%v, %v", a, err)
		}
	})
	t.Run("a silent server is asked last next time", func(t *testing.T) {
		first := newServer(t, silent)
		f := newForwarder(t, Config{}, first, newServer(t, address("192.0.2.2")))
		for range 3 {
			if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || len(a.Answer) != 1 {
				t.Errorf("%v, %v", a, err)
			}
		}
		if n := len(first.asked()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("all fail", func(t *testing.T) {
		f := newForwarder(t, Config{}, newServer(t, rcode(dns.RcodeServerFailure)), newServer(t, rcode(dns.RcodeRefused)))
		a, err := ask(t, f, "example.com.", dns.TypeA)
		if err != nil || a.Rcode != dns.RcodeRefused || a.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText != "upstream's reason" {
			t.Errorf("%v, %v", a, err)
		}
	})
	t.Run("all silent", func(t *testing.T) {
		f := newForwarder(t, Config{Timeout: 200 * time.Millisecond}, refused)
		if a, err := ask(t, f, "example.com.", dns.TypeA); !errors.Is(err, ErrTimeout) {
			t.Errorf("%v, %v", a, err)
		}
	})
	t.Run("a lost datagram is sent again", func(t *testing.T) {
		var mu sync.Mutex
		n := 0
		f := newForwarder(t, Config{}, newServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
			mu.Lock()
			n++
			lost := n == 1
			mu.Unlock()
			if !lost {
				address("192.0.2.1")(w, m)
			}
		}))
		if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || len(a.Answer) != 1 {
			t.Errorf("%v, %v", a, err)
		}
	})
	t.Run("no server", func(t *testing.T) {
		if a, err := ask(t, newForwarder(t, Config{}), "example.com.", dns.TypeA); !errors.Is(err, ErrNoServer) {
			t.Errorf("%v, %v", a, err)
		}
	})
}

func TestNXDomainIsAnAnswer(t *testing.T) {
	second := newServer(t, address("192.0.2.2"))
	f := newForwarder(t, Config{}, newServer(t, rcode(dns.RcodeNameError)), second)
	if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || a.Rcode != dns.RcodeNameError || len(second.asked()) != 0 {
		t.Errorf("%v, %v", a, err)
	}
}

func TestTruncatedGoesOverTCP(t *testing.T) {
	f := newForwarder(t, Config{Stagger: time.Minute}, newServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		if udp(w) {
			r.Truncated = true
		} else {
			for i := range 200 {
				rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN TXT %q", m.Question[0].Name, strings.Repeat(string(rune('a'+i%26)), 200)))
				r.Answer = append(r.Answer, rr)
			}
		}
		_ = w.WriteMsg(r)
	}))
	a, err := ask(t, f, "example.com.", dns.TypeTXT)
	if err != nil || a.Truncated || len(a.Answer) != 200 {
		t.Errorf("%v, %v", a, err)
	}
	if m := f.Metrics(); m.TCP != 1 {
		t.Errorf("%+v", m)
	}
}

// A server that does not keep the case is believed over TCP only.
func TestCaseLost(t *testing.T) {
	f := newForwarder(t, Config{}, newServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		ip := "203.0.113.1"
		if !udp(w) {
			ip = "192.0.2.1"
		}
		address(ip)(w, m)
	}))
	a, err := ask(t, f, "EXAMPLE.COM.", dns.TypeA) // hardly ever shuffled to all lower case
	if err != nil || len(a.Answer) != 1 {
		t.Fatalf("%v, %v", a, err)
	}
	if m := f.Metrics(); m.CaseLost == 1 && a.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
		t.Errorf("%v, %+v", a, m)
	}
}

// A server from before EDNS (RFC 6891 §6.2.2) gets the question without.
func TestNoEDNS(t *testing.T) {
	f := newForwarder(t, Config{}, newServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if m.IsEdns0() != nil {
			r := new(dns.Msg).SetRcodeFormatError(m)
			r.Question = m.Question
			_ = w.WriteMsg(r)
			return
		}
		address("192.0.2.1")(w, m)
	}))
	if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || len(a.Answer) != 1 || a.IsEdns0() == nil {
		t.Errorf("%v, %v", a, err)
	}
}

func TestJoined(t *testing.T) {
	release := make(chan struct{})
	s := newServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		address("192.0.2.1")(w, m)
	})
	f := newForwarder(t, Config{Stagger: time.Hour}, s)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a, err := ask(t, f, "example.com.", dns.TypeA); err != nil || len(a.Answer) != 1 {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	for end := time.Now().Add(10 * time.Second); f.Metrics().Joined < 19 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if m := f.Metrics(); m.Joined != 19 || m.Sent != 1 || m.InFlight != 0 {
		t.Errorf("%+v", m)
	}
}

func TestBusyAndClose(t *testing.T) {
	f := newForwarder(t, Config{MaxInFlight: 2, Timeout: time.Minute}, newServer(t, silent))
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for i := range 2 {
		wg.Go(func() {
			_, err := ask(t, f, fmt.Sprintf("n%d.example.com.", i), dns.TypeA)
			errs <- err
		})
	}
	for end := time.Now().Add(10 * time.Second); f.Metrics().InFlight < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, err := ask(t, f, "more.example.com.", dns.TypeA); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	f.Close()
	wg.Wait()
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := ask(t, f, "example.com.", dns.TypeA); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAskerGivesUp(t *testing.T) {
	f := newForwarder(t, Config{}, newServer(t, silent))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	packed, _ := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	if _, err := f.Exchange(ctx, packed); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestSetServers(t *testing.T) {
	f := newForwarder(t, Config{Own: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53"), netip.MustParseAddrPort("[fd53::1]:0")}})
	var many []netip.AddrPort
	for _, s := range []string{
		"192.0.2.1:53", "192.0.2.1:53", "[::ffff:192.0.2.1]:53", "198.18.0.1:53", "[::ffff:198.18.0.1]:53", "[fd53::1]:5353",
		"198.18.0.1:5353", "0.0.0.0:0", "[fe80::1%eth0]:53",
	} {
		many = append(many, netip.MustParseAddrPort(s))
	}
	f.SetServers(many)
	got := fmt.Sprint(f.Servers())
	if want := "[192.0.2.1:53 198.18.0.1:5353 [fe80::1%eth0]:53]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for i := range 20 {
		many = append(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), 53))
	}
	if f.SetServers(many); len(f.Servers()) != 8 {
		t.Errorf("%d servers", len(f.Servers()))
	}
	if _, err := New(Config{Servers: []netip.AddrPort{{}}, Timeout: -1, MaxInFlight: -1}); err == nil ||
		!strings.Contains(err.Error(), "timeout") || !strings.Contains(err.Error(), "in flight") || !strings.Contains(err.Error(), "server") {
		t.Errorf("%v: want every fault", err)
	}
}

func TestShuffleCase(t *testing.T) {
	for _, name := range []string{"\x00", "\x01a\x00", "\x031.2\x00", "\x07example\x03com\x00"} {
		for range 100 {
			got := shuffleCase([]byte(name))
			if !message.EqualNames(got, []byte(name)) {
				t.Fatalf("%q became %q", name, got)
			}
			if letters([]byte(name)) > 0 && string(got) == name {
				t.Fatalf("%q kept its case", name)
			}
		}
	}
}
