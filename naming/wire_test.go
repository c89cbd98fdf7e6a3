package naming

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/message"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/naming/upstream"
	"scn.alt/scn/routing/record"
)

func prefixOf(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// fakeClock is moved by hand, from the true time on.
type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *fakeClock { return &fakeClock{t: time.Now()} }

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Names come back in the case they were asked in (0x20), kept answers too.
func TestCasePreserved(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("chat", service("chat"))
	r.services.set(service("chat"), record.Port{Number: 22, Protocol: record.TCP})
	for _, host := range []string{"cHaT.tOp.", "CHAT.TOP.", "chat.top.", "eXample.COM."} {
		for range 2 {
			a := r.ask(t, host, dns.TypeA)
			if a.Question[0].Name != host || len(a.Answer) != 1 || a.Answer[0].Header().Name != host {
				t.Errorf("%s: %v", host, a)
			}
		}
	}
	if a := r.ask(t, "_22._TCP.Chat.Top.", dns.TypeSRV); len(a.Answer) != 1 || a.Answer[0].Header().Name != "_22._TCP.Chat.Top." {
		t.Errorf("%v", a)
	}
}

func TestRefused(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("chat", service("chat"))
	for _, tt := range []struct {
		name   string
		change func(*dns.Msg)
		rcode  int
	}{
		{"chaos", func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}, dns.RcodeRefused},
		{"class any", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }, dns.RcodeRefused},
		{"transfer", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
		{"update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"notify", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		{"no question", func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"question for OPT", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }, dns.RcodeFormatError},
		{"two OPT", func(m *dns.Msg) { m.SetEdns0(1232, false); m.SetEdns0(1232, false) }, dns.RcodeFormatError},
		{"EDNS version 1", func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		{"CD and AD", func(m *dns.Msg) { m.CheckingDisabled, m.AuthenticatedData = true, true }, dns.RcodeSuccess},
		{"no RD", func(m *dns.Msg) { m.RecursionDesired = false }, dns.RcodeSuccess},
		{"trailing records", func(m *dns.Msg) {
			m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA, Class: 1}, A: net.IPv4zero})
		}, dns.RcodeSuccess},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				m := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA)
				tt.change(m)
				packed, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				a := new(dns.Msg)
				if err := a.Unpack(exchangeRaw(t, r.addr, network, packed)); err != nil {
					t.Fatal(err)
				}
				if a.Rcode != tt.rcode || a.Id != m.Id || !a.Response {
					t.Errorf("%s: %v", network, a)
				}
			}
		})
	}
}

// exchangeRaw sends one message and returns one.
func exchangeRaw(t testing.TB, addr, network string, b []byte) []byte {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65537)
	if network == "tcp" {
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			t.Fatal(err)
		}
		n := binary.BigEndian.Uint16(buf)
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			t.Fatal(err)
		}
		return buf[:n]
	}
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// What is too long for the client's UDP is cut to TC, and whole over TCP: answers
// of ours and of the upstream.
func TestTruncation(t *testing.T) {
	r := newRig(t, nil)
	many := service("many")
	var ports []record.Port
	for i := range 64 {
		ports = append(ports, record.Port{Number: uint16(40000 + i), Protocol: record.TCP})
	}
	r.services.set(many, ports...)
	r.registry.set("many", many)
	for _, tt := range []struct {
		host string
		size uint16 // of the client's OPT, 0 without
		cut  bool
	}{
		{"many.top.", 0, false},
		{"many.top.", 1232, false},
		{"long.example.com.", 0, true},
		{"long.example.com.", 512, true},
		{"long.example.com.", 4096, true},
	} {
		m := new(dns.Msg).SetQuestion(tt.host, dns.TypeTXT)
		if tt.size > 0 {
			m.SetEdns0(tt.size, false)
		}
		packed, _ := m.Pack()
		b := exchangeRaw(t, r.addr, "udp", packed)
		limit := max(512, min(int(tt.size), 1232))
		a := new(dns.Msg)
		if err := a.Unpack(b); err != nil || len(b) > limit || a.Truncated != tt.cut || tt.cut == (len(a.Answer) > 0) {
			t.Errorf("%s %d: %d bytes, %v, %v", tt.host, tt.size, len(b), err, a)
		}
		if (a.IsEdns0() != nil) != (tt.size > 0) {
			t.Errorf("%s %d: OPT %v", tt.host, tt.size, a.IsEdns0())
		}
		if a := r.exchange(t, m, "tcp"); a.Truncated || len(a.Answer) == 0 {
			t.Errorf("%s over TCP: %v", tt.host, a)
		}
	}
}

func TestTCP(t *testing.T) {
	r := newRig(t, func(_ *NamesConfig, c *Config) { c.MaxConns = 4 })
	r.registry.set("chat", service("chat"))
	r.registry.mu.Lock()
	r.registry.delay = 30 * time.Millisecond
	r.registry.mu.Unlock()
	c, err := dns.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 100
	for i := range n { // pipelined, answered in any order
		host := fmt.Sprintf("n%d.example.com.", i)
		if i%2 == 0 {
			host = fmt.Sprintf("n%d.chat.top.", i)
		}
		m := new(dns.Msg).SetQuestion(host, dns.TypeA)
		m.Id = uint16(i)
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	got := make(map[uint16]bool)
	for range n {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		a, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Answer) != 1 || got[a.Id] || !strings.HasPrefix(a.Question[0].Name, fmt.Sprintf("n%d.", a.Id)) {
			t.Fatalf("%v", a)
		}
		got[a.Id] = true
	}
	// One connection too many is closed; a place becomes free again.
	var open []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			continue
		}
		open = append(open, c)
	}
	eventually(t, "connections over the limit are closed", func() bool { return r.Metrics().ConnectionsFull >= 5 })
	for _, c := range open {
		c.Close()
	}
	eventually(t, "a place is free", func() bool {
		a, _, err := (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetQuestion("chat.top.", dns.TypeA), r.addr)
		return err == nil && len(a.Answer) == 1
	})
	// Not DNS.
	junk, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	if _, err := junk.Write([]byte("\x00\x05hello")); err != nil {
		t.Fatal(err)
	}
	_ = junk.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(junk); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("a connection that speaks no DNS stays open")
	}
}

func TestGarbage(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("chat", service("chat"))
	whole, _ := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, true).Pack()
	c, err := net.Dial("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func(b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for n := range len(whole) {
		send(whole[:n])
		for _, flip := range []byte{0xff, 0x80, 0x01} {
			b := append([]byte(nil), whole...)
			b[n] ^= flip
			send(b)
		}
	}
	send(make([]byte, 9000))
	response := append([]byte(nil), whole...)
	response[2] |= 0x80
	before := r.Metrics().Malformed
	send(response)
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 {
		t.Errorf("%v", a)
	}
	eventually(t, "garbage is counted", func() bool { return r.Metrics().Malformed > max(before, 20) })
}

// Our own query coming back is told from a client's and ends at once.
func TestLoop(t *testing.T) {
	var addr netip.AddrPort
	r := newRig(t, func(_ *NamesConfig, c *Config) {
		p, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		addr = p.LocalAddr().(*net.UDPAddr).AddrPort()
		c.Listen, c.PacketConns = nil, []net.PacketConn{p}
	})
	r.forwarder.SetServers([]netip.AddrPort{addr})
	start := time.Now()
	a := r.ask(t, "looping.example.com", dns.TypeA)
	if a.Rcode != dns.RcodeServerFailure || time.Since(start) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(start), a)
	}
	if m := r.Metrics(); m.Loops == 0 || r.forwarder.Metrics().Sent > 8 {
		t.Errorf("%+v, %+v", m, r.forwarder.Metrics())
	}
	// One of our own addresses is not asked at all.
	f, err := upstream.New(upstream.Config{Servers: []netip.AddrPort{addr}, Own: []netip.AddrPort{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s := f.Servers(); len(s) != 0 {
		t.Errorf("servers %v", s)
	}
}

// A socket that is not the system's, and one that hears every address.
func TestHandedInSockets(t *testing.T) {
	wild, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // multipath TCP by default
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(_ *NamesConfig, c *Config) {
		c.Listen, c.PacketConns, c.Listeners = nil, []net.PacketConn{wild, struct{ net.PacketConn }{plain}}, []net.Listener{l}
	})
	r.registry.set("chat", service("chat"))
	port := wild.LocalAddr().(*net.UDPAddr).Port
	for _, target := range []struct{ network, addr string }{
		{"udp", fmt.Sprintf("127.0.0.1:%d", port)},
		{"udp", fmt.Sprintf("127.0.0.9:%d", port)},
		{"udp", fmt.Sprintf("[::1]:%d", port)},
		{"udp", plain.LocalAddr().String()},
		{"tcp", l.Addr().String()},
	} {
		if strings.HasPrefix(target.addr, "[") {
			probe, err := net.ListenPacket("udp", "[::1]:0")
			if err != nil {
				continue // no IPv6 here
			}
			probe.Close()
		}
		c := dns.Client{Net: target.network, Timeout: 10 * time.Second}
		for range 2 {
			a, _, err := c.Exchange(new(dns.Msg).SetQuestion("chat.top.", dns.TypeA), target.addr)
			if err != nil || len(a.Answer) != 1 {
				t.Errorf("%v: %v, %v", target, a, err)
			}
		}
	}
}

// A stale answer is given at once and made anew behind the client's back.
func TestStaleWhileRefresh(t *testing.T) {
	clock := newClock()
	r := newRig(t, func(n *NamesConfig, c *Config) { n.Clock, c.Clock = clock.now, clock.now })
	r.registry.set("chat", service("chat"))
	r.ask(t, "chat.top", dns.TypeA)
	if n := r.registry.asked("chat"); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	for range 10 {
		r.ask(t, "chat.top", dns.TypeA)
	}
	if n := r.registry.asked("chat"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	clock.add(time.Minute) // past what is fresh, within what is stale
	r.registry.mu.Lock()
	r.registry.delay = time.Second
	r.registry.mu.Unlock()
	start := time.Now()
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 || time.Since(start) > 900*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(start), a)
	}
	eventually(t, "asked behind the client's back", func() bool { return r.registry.asked("chat") == 2 })
}

func TestOverload(t *testing.T) {
	r := newRig(t, func(n *NamesConfig, c *Config) { c.MaxQueries = 4; n.Timeout = 2 * time.Second })
	r.registry.set("chat", service("chat"))
	r.ask(t, "chat.top", dns.TypeA)
	r.registry.mu.Lock()
	r.registry.delay = time.Hour
	r.registry.mu.Unlock()
	c, err := net.Dial("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 200 {
		b, _ := new(dns.Msg).SetQuestion(fmt.Sprintf("flood%d.scn.alt.", i), dns.TypeA).Pack()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "queries over the limit are dropped", func() bool { return r.Metrics().Overload > 0 })
	if a := r.ask(t, "chat.top", dns.TypeA); len(a.Answer) != 1 { // what is kept is still given
		t.Errorf("%v", a)
	}
}

func TestConcurrency(t *testing.T) {
	r := newRig(t, func(_ *NamesConfig, c *Config) {
		c.Fresh, c.Stale, c.MaxCached = time.Nanosecond, time.Nanosecond, 8 // everything is always made anew
	})
	for i := range 20 {
		r.registry.set(name.Name(fmt.Sprintf("name%d", i)), service(fmt.Sprint(i)))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				network := []string{"udp", "tcp"}[w%2]
				host := fmt.Sprintf("name%d.top.", i%25)
				m := new(dns.Msg).SetQuestion(host, []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypePTR}[i%4])
				a, _, err := (&dns.Client{Net: network, Timeout: 20 * time.Second}).Exchange(m, r.addr)
				if err != nil || a.Rcode != 0 {
					t.Errorf("%s: %v, %v", host, a, err)
					return
				}
				switch {
				case i%10 == 0:
					r.names.Forget(name.Name(fmt.Sprintf("name%d", i%25)))
				case i%17 == 0:
					r.Flush()
				case i%33 == 0:
					r.names.SetPetnames(nil)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzAnswer(f *testing.F) {
	r := newRig(f, nil)
	r.registry.set("chat", service("chat"))
	for _, host := range []string{"chat.top.", "a.b.chat.scn.alt.", "1.0.18.198.in-addr.arpa.", "_22._tcp.chat.top.", "version.bind.", ".", service("x").String() + ".top."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeANY, dns.TypeTXT} {
			b, _ := new(dns.Msg).SetQuestion(host, typ).SetEdns0(1232, true).Pack()
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, query []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b := r.Answer(ctx, query)
		if b == nil {
			return
		}
		if len(query) < message.HeaderSize || len(b) < message.HeaderSize || b[0] != query[0] || b[1] != query[1] || b[2]&0x80 == 0 {
			t.Fatalf("%x answered by %x", query, b)
		}
		var m dns.Msg
		if err := m.Unpack(b); err != nil {
			t.Fatalf("%x answered by %x: %v", query, b, err)
		}
	})
}

// TestKeptAnswersAllocateNothing is the path of a packet from parsing to reply.
func TestKeptAnswersAllocateNothing(t *testing.T) {
	r := newRig(t, nil)
	r.registry.set("chat", service("chat"))
	query, _ := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, false).Pack()
	r.Answer(t.Context(), query)
	reply, key := make([]byte, 0, message.MaxSize), make([]byte, 0, 260)
	if n := testing.AllocsPerRun(1000, func() {
		q, err := message.Parse(query)
		if _, done := r.refuse(reply, query, q, err); done {
			t.Fatal("refused")
		}
		if r.prepared(reply, query, q, key, q.Size) == nil {
			t.Fatal("not kept")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKept(b *testing.B) {
	r := newRig(b, nil)
	r.registry.set("chat", service("chat"))
	query, _ := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, false).Pack()
	r.Answer(b.Context(), query)
	reply, key := make([]byte, 0, message.MaxSize), make([]byte, 0, 260)
	b.ReportAllocs()
	for b.Loop() {
		q, _ := message.Parse(query)
		r.prepared(reply, query, q, key, q.Size)
	}
}

// BenchmarkUDP is a client that waits for each answer, and several at once.
func BenchmarkUDP(b *testing.B) {
	r := newRig(b, nil)
	r.registry.set("chat", service("chat"))
	query, _ := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, false).Pack()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp", r.addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 1232)
		for pb.Next() {
			if _, err := c.Write(query); err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
