package underlay

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/path"
	"scn.alt/scn/sal/relay"
)

// crowdEnv makes the test binary a crowd of nodes: "port,count".
const crowdEnv = "SCN_UNDERLAY_CROWD"

// TestRelayMemory registers many nodes, which live in another process, and measures
// what each costs the relay: quic-go's connection and ours.
func TestRelayMemory(t *testing.T) {
	if at := os.Getenv(crowdEnv); at != "" {
		crowd(t, at)
		return
	}
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	n := 200
	if v, err := strconv.Atoi(os.Getenv("SCN_RELAY_NODES")); err == nil {
		n = v
	}
	r := newPeer(t, 'r', Config{AllowLoopback: true, Relay: &relay.Limits{Registrations: 65536}}, true)
	before := memory()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRelayMemory$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d", crowdEnv, r.Port(), n))
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stop.Close()
	var all []*quic.Conn
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c, err := r.ln.Accept(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		a, err := r.Accepted(c.RemoteAddr(), identity.NodeID{1, byte(i >> 16), byte(i >> 8), byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		a.SetSessions(1)
		if err := a.Bind(exported(t, c), false); err != nil {
			t.Fatal(err)
		}
		if _, err := a.GrantRelay(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	// As after half a minute of quiet.
	r.callWait(func(e *engine) { e.trimRings(e.s.now() + 2*ringIdle) })
	after := memory()
	each := (after.live - before.live) / n
	t.Logf("%d nodes: %d bytes each of heap and stacks (%d of heap), %d of resident memory", n, each,
		(after.heap-before.heap)/n, (after.resident-before.resident)/n)
	t.Logf("%d goroutines, association %d bytes", runtime.NumGoroutine(), unsafe.Sizeof(Association{}))
	if path := os.Getenv("SCN_HEAP_PROFILE"); path != "" {
		f, _ := os.Create(path)
		defer f.Close()
		pprof.Lookup("heap").WriteTo(f, 0)
	}
	runtime.KeepAlive(all)
	if m := r.Metrics(); m.Relay.Registrations != n || m.Dead != 0 {
		t.Errorf("%+v", m)
	}
	if each > 52<<10 {
		t.Errorf("a registered node costs %d bytes", each)
	}
}

// TestIdleAssociationIsSmall binds many associations without a QUIC connection, as those
// of nodes that are registered at a relay and have nothing to say to it.
func TestIdleAssociationIsSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	s := open(t, Config{Relay: &relay.Limits{}})
	const n = 2000
	before := memory()
	for i := range n {
		a, err := s.Dial(identity.NodeID{1, byte(i >> 8), byte(i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.route.Store(s.newRoute(path.Route{Remote: sink.LocalAddr().(*net.UDPAddr).AddrPort()}, unknownMTU))
		a.SetSessions(1)
		if err := a.Bind(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, SecretSize/2), false); err != nil {
			t.Fatal(err)
		}
		if _, err := a.GrantRelay(); err != nil {
			t.Fatal(err)
		}
	}
	each := (memory().live - before.live) / n
	t.Logf("%d bytes each", each)
	if each > 9<<10 {
		t.Errorf("an idle association costs %d bytes", each)
	}
}

type footprint struct{ live, heap, resident int }

func memory() footprint {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{live: int(m.HeapAlloc + m.StackInuse), heap: int(m.HeapAlloc)}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			pages, _ := strconv.Atoi(fields[1])
			f.resident = pages * os.Getpagesize()
		}
	}
	return f
}

// crowd dials a relay from many sockets and stays until its input ends.
func crowd(t *testing.T, at string) {
	var port, n int
	if _, err := fmt.Sscanf(at, "%d,%d", &port, &n); err != nil {
		t.Fatal(err)
	}
	conf := testTLS(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Error(err)
				return
			}
			one := &oneOfCrowd{PacketConn: udp, remote: loopback(uint16(port))}
			tr := &quic.Transport{Conn: one, ConnectionIDLength: connectionIDLen}
			c, err := tr.Dial(t.Context(), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, conf, testQUIC())
			if err != nil {
				t.Error(err)
				return
			}
			state := c.ConnectionState().TLS
			secret, _ := state.ExportKeyingMaterial(ExporterLabel, nil, SecretSize)
			one.begin(t, path.Config{
				Initiator: true, Secret: secret, Start: time.Now(),
				First: path.Route{Remote: one.remote},
			})
		})
	}
	wg.Wait()
	var b [1]byte
	os.Stdin.Read(b[:])
	os.Exit(0) // nobody waits for ten thousand closings
}

// oneOfCrowd is a UDP socket that answers path messages. Only as net.PacketConn, so
// that quic-go reads through ReadFrom.
type oneOfCrowd struct {
	net.PacketConn
	remote  netip.AddrPort
	mu      sync.Mutex // guards below
	machine *path.Machine
	early   [][]byte
}

func (o *oneOfCrowd) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := o.PacketConn.ReadFrom(b)
		if err != nil || n == 0 || b[0] != path.Type {
			return n, addr, err
		}
		o.mu.Lock()
		if o.machine == nil {
			o.early = append(o.early, append([]byte(nil), b[:n]...))
		} else {
			o.stepLocked(b[:n])
		}
		o.mu.Unlock()
	}
}

func (o *oneOfCrowd) begin(tb testing.TB, cfg path.Config) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var err error
	if o.machine, err = path.New(cfg); err != nil {
		tb.Error(err)
		return
	}
	o.actLocked()
	for _, b := range o.early {
		o.stepLocked(b)
	}
}

func (o *oneOfCrowd) stepLocked(b []byte) {
	o.machine.Step(time.Now(), path.Received{Route: path.Route{Remote: o.remote}, Datagram: b})
	o.actLocked()
}

func (o *oneOfCrowd) actLocked() {
	for _, a := range o.machine.Take() {
		if s, ok := a.(path.Send); ok {
			o.WriteTo(s.Datagram, net.UDPAddrFromAddrPort(s.Route.Remote))
		}
	}
}
