package naming

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/naming/upstream"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

var errDown = errors.New("authority down")

// fakeRegistry answers from a table. A name not in it is authentically not
// registered, or unknown while the authority is down.
type fakeRegistry struct {
	mu      sync.Mutex
	names   map[name.Name]identity.ServiceID
	expires map[name.Name]time.Time
	down    bool
	delay   time.Duration
	lookups map[name.Name]int
}

func newRegistry() *fakeRegistry {
	return &fakeRegistry{names: make(map[name.Name]identity.ServiceID), expires: make(map[name.Name]time.Time), lookups: make(map[name.Name]int)}
}

func (r *fakeRegistry) Lookup(ctx context.Context, n name.Name) (Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lookups[n]++
	if r.delay > 0 {
		delay := r.delay
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			r.mu.Lock()
			return Answer{}, ctx.Err()
		case <-time.After(delay):
		}
		r.mu.Lock()
	}
	if r.down {
		return Answer{}, errDown
	}
	id, ok := r.names[n]
	if !ok {
		return Answer{State: NotRegistered}, nil
	}
	end := r.expires[n]
	if end.IsZero() {
		end = time.Now().Add(time.Hour)
	}
	return Answer{State: Registered, Record: name.Record{Name: n, Service: id, Height: 7, NotAfter: end.Unix()}}, nil
}

func (r *fakeRegistry) set(n name.Name, id identity.ServiceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[n] = id
}

func (r *fakeRegistry) release(n name.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, n)
}

func (r *fakeRegistry) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *fakeRegistry) asked(n name.Name) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookups[n]
}

// fakeAddresses derives addresses from the service ID.
type fakeAddresses struct {
	mu   sync.Mutex
	back map[netip.Addr]identity.ServiceID
	no6  bool
}

func (a *fakeAddresses) Assign(_ context.Context, id identity.ServiceID) (netip.Addr, netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v4 := netip.AddrFrom4([4]byte{198, 18, id[0], id[1]})
	v6 := netip.AddrFrom16([16]byte{0xfd, 0x53, 0x43, 0x4e, 8: id[0], 9: id[1], 10: id[2], 15: 1})
	if a.back == nil {
		a.back = make(map[netip.Addr]identity.ServiceID)
	}
	a.back[v4], a.back[v6] = id, id
	if a.no6 {
		v6 = netip.Addr{}
	}
	return v4, v6, nil
}

func (a *fakeAddresses) Service(addr netip.Addr) (identity.ServiceID, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, ok := a.back[addr]
	return id, ok
}

// fakeServices knows every service but those it was told not to.
type fakeServices struct {
	mu    sync.Mutex
	ports map[identity.ServiceID][]record.Port
	fail  map[identity.ServiceID]error
}

func (s *fakeServices) Lookup(_ context.Context, id identity.ServiceID) (Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail[id]; err != nil {
		return Service{}, err
	}
	return Service{Ports: s.ports[id], Providers: make([]record.Candidate, 2), Sequence: 3}, nil
}

func (s *fakeServices) set(id identity.ServiceID, ports ...record.Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[id] = ports
}

func (s *fakeServices) setFail(id identity.ServiceID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[id] = err
}

// fakeUpstream is a real DNS server that counts what it is asked.
type fakeUpstream struct {
	addr netip.AddrPort

	mu    sync.Mutex
	asked map[string]int
}

func newUpstream(t *testing.T) *fakeUpstream {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", c.LocalAddr().String())
	if err != nil {
		t.Skipf("the TCP port beside the UDP port is taken: %v", err)
	}
	u := &fakeUpstream{addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), asked: make(map[string]int)}
	for _, s := range []*dns.Server{{PacketConn: c, Handler: u}, {Listener: l, Handler: u}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
	return u
}

// ServeDNS answers 192.0.2.1 to everything but names that start with "missing",
// and a long TXT record to every question for one.
func (u *fakeUpstream) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	u.mu.Lock()
	u.asked[dns.CanonicalName(q.Name)]++
	u.mu.Unlock()
	r := new(dns.Msg).SetReply(m)
	switch {
	case len(q.Name) > 7 && dns.CanonicalName(q.Name)[:7] == "missing":
		r.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
	case q.Qtype == dns.TypeTXT:
		for range 20 {
			r.Answer = append(r.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60},
				Txt: []string{string(make([]byte, 200))},
			})
		}
		if w.LocalAddr().Network() == "udp" {
			r.Truncate(1232)
		}
	}
	if o := m.IsEdns0(); o != nil {
		r.SetEdns0(1232, o.Do())
	}
	_ = w.WriteMsg(r)
}

func (u *fakeUpstream) count(host string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[dns.Fqdn(host)]
}

// rig is a whole server on a loopback port with everything it asks faked.
type rig struct {
	*Server
	names     *Names
	registry  *fakeRegistry
	addresses *fakeAddresses
	services  *fakeServices
	up        *fakeUpstream
	addr      string
	forwarder *upstream.Forwarder
}

func service(s string) identity.ServiceID { return sha256.Sum256([]byte(s)) }

func newRig(t testing.TB, change func(*NamesConfig, *Config)) *rig {
	t.Helper()
	r := &rig{
		registry: newRegistry(), addresses: &fakeAddresses{},
		services: &fakeServices{ports: make(map[identity.ServiceID][]record.Port), fail: make(map[identity.ServiceID]error)},
	}
	ucfg := upstream.Config{}
	if tt, ok := t.(*testing.T); ok {
		r.up = newUpstream(tt)
		ucfg.Servers = []netip.AddrPort{r.up.addr}
	}
	forwarder, err := upstream.New(ucfg)
	if err != nil {
		t.Fatal(err)
	}
	r.forwarder = forwarder
	ncfg := NamesConfig{SeenFile: filepath.Join(t.TempDir(), "seen")}
	cfg := Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("fd53:434e::/32")},
	}
	if change != nil {
		change(&ncfg, &cfg)
	}
	if r.names, err = OpenNames(r.registry, ncfg); err != nil {
		t.Fatal(err)
	}
	if r.Server, err = Open(r.names, r.addresses, r.services, forwarder, cfg); err != nil {
		t.Fatal(err)
	}
	r.addr = r.Addrs()[0].String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := errors.Join(r.names.Close(), forwarder.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ask sends a question with EDNS over UDP.
func (r *rig) ask(t testing.TB, host string, typ uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(host), typ)
	m.SetEdns0(1232, false)
	return r.exchange(t, m, "udp")
}

func (r *rig) exchange(t testing.TB, m *dns.Msg, network string) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 10 * time.Second}
	a, _, err := c.Exchange(m, r.addr)
	if err != nil {
		t.Fatalf("%s: %v", m.Question[0].String(), err)
	}
	return a
}

// ede returns the text of the extended error.
func ede(m *dns.Msg) string {
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_EDE); ok {
				return e.ExtraText
			}
		}
	}
	return ""
}

var _ Upstream = (*upstream.Forwarder)(nil)
