package portmap

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mapper is one that runs until stop.
type mapper struct {
	*Mapper
	stop func()

	mu    sync.Mutex // guards below
	told  [][]netip.AddrPort
	gates []netip.Addr
}

func start(t *testing.T, cfg Config, gateways ...netip.Addr) *mapper {
	t.Helper()
	m := &mapper{gates: gateways}
	cfg.Gateways = func() ([]netip.Addr, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.Clone(m.gates), nil
	}
	cfg.Changed = func(all []netip.AddrPort) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told = append(m.told, all)
	}
	if cfg.patience == 0 {
		cfg.patience = 5 * time.Second // a busy machine answers late
	}
	var err error
	if m.Mapper, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	m.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(m.stop)
	return m
}

func (m *mapper) last() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.told) == 0 {
		return nil
	}
	return m.told[len(m.told)-1]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

const outside = "8.8.4.4"

func TestMapRenewUnmap(t *testing.T) {
	for _, c := range []struct {
		name  string
		speak func(r *router)
	}{
		{"pcp", func(r *router) { r.set(func() { r.pcp = true }) }},
		{"nat-pmp", func(r *router) { r.set(func() { r.pmp = true }) }},
		{"upnp", func(r *router) { r.serveUPnP() }},
		{"upnp", func(r *router) { r.serveUPnP(); r.set(func() { r.permanent = true }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t, outside)
			c.speak(r)
			cfg := Config{Port: 47700, Next: true}
			if c.name == "upnp" {
				cfg.patience = time.Second // the others are waited for in vain
			}
			m := start(t, cfg, r.at)
			eventually(t, "mapped", func() bool { return len(m.Mappings()) == 2 })
			want := netip.AddrPortFrom(r.outside, 47700)
			if got := m.Mappings()[0]; got.External != want || got.Protocol != c.name || got.Gateway != r.at ||
				time.Until(got.Expires) > time.Hour || time.Until(got.Expires) < 50*time.Minute {
				t.Errorf("mapped %+v", got)
			}
			if got := m.Dialable(); !slices.Equal(got, []netip.AddrPort{want}) {
				t.Errorf("others can dial %v", got)
			}
			eventually(t, "told", func() bool { return slices.Equal(m.last(), []netip.AddrPort{want}) })
			if got := r.table(); !maps.Equal(got, map[uint16]uint16{47700: 47700, 47701: 47701}) {
				t.Errorf("the router has %v", got)
			}

			// A router that lost its memory gets it back, and the mapping is told once.
			r.set(func() { clear(r.mapped); clear(r.nonces) })
			m.Kick()
			eventually(t, "renewed", func() bool { return m.Metrics().Renewals == 2 })
			if got := r.table(); len(got) != 2 {
				t.Errorf("the router has %v", got)
			}
			m.mu.Lock()
			told := len(m.told)
			m.mu.Unlock()
			if told != 1 {
				t.Errorf("told %d times", told)
			}

			m.stop()
			if got := r.table(); len(got) != 0 {
				t.Errorf("left behind: %v", got)
			}
			if len(m.last()) != 0 {
				t.Errorf("told at the end: %v", m.last())
			}
		})
	}
}

// The outside port may be another one; the next one's is of use only beside it.
func TestPortIsTaken(t *testing.T) {
	r := newRouter(t, outside)
	r.set(func() { r.pcp = true; r.taken[47700] = true; r.taken[47801] = true })
	m := start(t, Config{Port: 47700, Next: true}, r.at)
	eventually(t, "mapped", func() bool { return len(m.Mappings()) == 1 })
	if got := m.Dialable(); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(r.outside, 47800)}) {
		t.Errorf("others can dial %v", got)
	}
	eventually(t, "what is of no use is taken back", func() bool {
		return maps.Equal(r.table(), map[uint16]uint16{47700: 47800})
	})
}

func TestAnotherGateway(t *testing.T) {
	first, second := newRouter(t, outside), newRouter(t, "9.9.9.9")
	first.set(func() { first.pcp = true })
	second.set(func() { second.pmp = true })
	m := start(t, Config{Port: 47700}, first.at)
	eventually(t, "mapped", func() bool { return len(m.Mappings()) == 1 })
	m.mu.Lock()
	m.gates = []netip.Addr{second.at}
	m.mu.Unlock()
	m.Kick()
	eventually(t, "mapped at the other", func() bool {
		all := m.Mappings()
		return len(all) == 1 && all[0].Gateway == second.at
	})
	if len(first.table()) != 0 || len(second.table()) != 1 {
		t.Errorf("the routers have %v and %v", first.table(), second.table())
	}
}

// What only a private network could dial is not handed on.
func TestSecondNAT(t *testing.T) {
	for _, address := range []string{"192.168.7.7", "100.64.1.2", "0.0.0.0", "127.0.0.9", "255.255.255.255", "224.0.0.1"} {
		r := newRouter(t, address)
		r.set(func() { r.pcp = true })
		m := start(t, Config{Port: 47700}, r.at)
		eventually(t, "mapped", func() bool { return len(m.Mappings()) == 1 })
		if got := m.Dialable(); len(got) != 0 || len(m.last()) != 0 || m.Metrics().Useless != 1 {
			t.Errorf("%s: others can dial %v, told %v", address, got, m.last())
		}
		m.stop()
	}
}

func TestNobodyMaps(t *testing.T) {
	r := newRouter(t, outside)
	m := start(t, Config{Port: 47700, patience: 600 * time.Millisecond}, r.at)
	eventually(t, "given up", func() bool { return m.Metrics().Failures == 1 })
	r.set(func() { r.pcp = true })
	m.Kick()
	eventually(t, "mapped when it does", func() bool { return len(m.Mappings()) == 1 })
	began := time.Now()
	m.stop()
	if d := time.Since(began); d > goodbye+time.Second {
		t.Errorf("the end took %v", d)
	}
}

// Answers that are not to our question, and routers that refuse.
func TestPCPAnswersThatAreNone(t *testing.T) {
	for name, lie := range map[string]func(a []byte) [][]byte{
		"another nonce": func(a []byte) [][]byte { a[24]++; return [][]byte{a} },
		"another port":  func(a []byte) [][]byte { a[41]++; return [][]byte{a} },
		"cut":           func(a []byte) [][]byte { return [][]byte{a[:59]} },
		"nothing":       func([]byte) [][]byte { return [][]byte{{}} },
		"refused":       func(a []byte) [][]byte { a[3] = 2; return [][]byte{a} },
		"no port":       func(a []byte) [][]byte { a[42], a[43] = 0, 0; return [][]byte{a} },
		"no life":       func(a []byte) [][]byte { clear(a[4:8]); return [][]byte{a} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, outside)
			r.set(func() { r.pcp, r.lie = true, lie })
			m := start(t, Config{Port: 47700, patience: 600 * time.Millisecond}, r.at)
			eventually(t, "given up", func() bool { return m.Metrics().Failures == 1 })
			if got := m.Mappings(); len(got) != 0 {
				t.Errorf("mapped %v", got)
			}
		})
	}
	t.Run("the right one behind", func(t *testing.T) {
		r := newRouter(t, outside)
		r.set(func() {
			r.pcp = true
			r.lie = func(a []byte) [][]byte {
				other := slices.Clone(a)
				other[30]++
				return [][]byte{other, a[:10], a}
			}
		})
		m := start(t, Config{Port: 47700}, r.at)
		eventually(t, "mapped", func() bool { return len(m.Mappings()) == 1 })
	})
}

func TestUPnPIsTheGatewaysOnly(t *testing.T) {
	other := newRouter(t, outside)
	other.serveUPnP()
	t.Cleanup(func() { // after the subtests
		other.mu.Lock()
		defer other.mu.Unlock()
		if n := other.asked["upnp"]; n != 0 {
			t.Errorf("another host was asked %d times", n)
		}
	})
	for name, twist := range map[string]func(r *router){
		"description elsewhere": func(r *router) { r.location = "http://" + other.at.String() + ":1900/root.xml" },
		"not HTTP":              func(r *router) { r.location = "file:///etc/passwd" },
		"a name":                func(r *router) { r.location = "http://localhost/root.xml" },
		"control elsewhere": func(r *router) {
			r.describe = strings.Replace(description, "/control<", "http://"+other.at.String()+":80/control<", 1)
		},
		"base elsewhere": func(r *router) {
			r.describe = strings.Replace(description, "<device>", "<URLBase>http://"+other.at.String()+"</URLBase><device>", 1)
		},
		"endless": func(r *router) { r.describe = description[:60] + strings.Repeat("<device>", 1<<18) },
		"garbage": func(r *router) { r.describe = "<root" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(t, outside)
			r.serveUPnP()
			r.set(func() { twist(r) })
			m := start(t, Config{Port: 47700, patience: 600 * time.Millisecond}, r.at)
			eventually(t, "given up", func() bool { return m.Metrics().Failures == 1 })
			if got := m.Mappings(); len(got) != 0 {
				t.Errorf("mapped %v", got)
			}
		})
	}
}

// Reference: RFC 6887 §7.1, §11.1, byte by byte.
func TestPCPRequest(t *testing.T) {
	nonce := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	got := appendPCP(nil, netip.MustParseAddr("192.168.1.2"), nonce, 0xba54, 0xba55, time.Hour)
	want := "02" + "01" + "0000" + "00000e10" + // version, MAP, reserved, lifetime
		"00000000000000000000ffffc0a80102" + // client
		"0102030405060708090a0b0c" + "11" + "000000" + // nonce, UDP, reserved
		"ba54" + "ba55" + "00000000000000000000ffff00000000" // ports, any IPv4 address
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
	answer := slices.Clone(got)
	answer[1] |= 0x80
	clear(answer[2:4])
	for n := range answer {
		if _, _, err := parsePCP(answer[:n], nonce, 0xba54); err == nil {
			t.Errorf("an answer cut to %d bytes is one", n)
		}
	}
	if a, life, err := parsePCP(answer, nonce, 0xba54); err != nil || life != time.Hour || a.Port() != 0xba55 {
		t.Errorf("%v, %v, %v", a, life, err)
	}
	if _, _, err := parsePCP([]byte{0, 0x81, 0, 1, 0, 0, 0, 1}, nonce, 1); !errors.Is(err, errRefused) {
		t.Errorf("NAT-PMP's answer to it: %v", err)
	}
}

const table = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0100A8C0	0003	0	0	600	00000000	0	0	0
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
eth1	00000000	0101A8C0	0003	0	0	700	00000000	0	0	0
ppp0	00000000	00000000	0001	0	0	50	00000000	0	0	0
`

func TestRoutes(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		t.Skip("the table is of a little-endian host")
	}
	want := []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.0.1")}
	if got := parseRoutes([]byte(table)); !slices.Equal(got, want) {
		t.Errorf("gateways %v, want %v", got, want)
	}
}

func TestConfigFaults(t *testing.T) {
	for _, c := range []Config{{}, {Port: 65535, Next: true}, {Port: 1, Lifetime: time.Second}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func FuzzParsePCP(f *testing.F) {
	nonce := [12]byte{1}
	f.Add(appendPCP(nil, netip.MustParseAddr("192.168.1.2"), nonce, 1, 2, time.Hour))
	f.Add([]byte{0, 0x81, 0, 1})
	f.Add([]byte{2, 0x81, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, life, err := parsePCP(b, nonce, 1)
		if err == nil && (len(b) < pcpSize || life < 0 || !a.Addr().IsValid()) {
			t.Errorf("%x is %v for %v", b, a, life)
		}
	})
}

func FuzzParseRoutes(f *testing.F) {
	f.Add([]byte(table))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, a := range parseRoutes(b) {
			if !a.Is4() || a.IsUnspecified() {
				t.Errorf("gateway %v", a)
			}
		}
	})
}

func FuzzParseUPnP(f *testing.F) {
	f.Add([]byte(description))
	f.Add([]byte("HTTP/1.1 200 OK\r\nLocation: http://192.0.2.1:5000/root.xml\r\n\r\n"))
	gateway := netip.MustParseAddr("192.0.2.1")
	at := &url.URL{Scheme: "http", Host: "192.0.2.1:5000", Path: "/root.xml"}
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, ok := parseSearchAnswer(b, gateway); ok && u.Hostname() != gateway.String() {
			t.Errorf("the description is at %s", u)
		}
		if root, err := parseDescription(b, at); err == nil {
			connectionOf(root, at, gatewayClient(gateway))
		}
	})
}
