package sal

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal/saltest"
)

const (
	relayClientsEnv = "SCN_TEST_RELAY_CLIENTS"
	// relayMemory is what a registration may hold at a relay. Half as much
	// again is garbage before it is collected, so 10,000 of them fit into 400 MB.
	relayMemory = 24_000
)

// TestRelayMemory: a registration is cheap for the relay, connection and all. The
// nodes that register run in a process of their own.
func TestRelayMemory(t *testing.T) {
	needRelays(t)
	if os.Getenv(relayClientsEnv) != "" {
		relayClients(t)
		return
	}
	if raceEnabled || testing.Short() {
		t.Skip("measures memory")
	}
	count := 250
	if n, err := strconv.Atoi(os.Getenv("SCN_TEST_RELAY_NODES")); err == nil {
		count = n
	}
	relayNode := testNode(t, 9999, nil, isRelay, parksSoon)
	before := memory()
	child := exec.Command(os.Args[0], "-test.run=^TestRelayMemory$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", relayClientsEnv, count, relayNode.carrier.locators()[0]))
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = child.Wait()
	}()
	begun := time.Now()
	eventually(t, "the nodes to start", func() bool {
		line, err := bufio.NewReader(out).ReadString('\n')
		return err == nil && line == "up\n"
	})
	for registered, parked := 0, 0; registered < count || parked < count || openLinks(relayNode) > 0; time.Sleep(50 * time.Millisecond) {
		if registered, parked = relayNode.relay.len(); time.Since(begun) > 30*time.Second+time.Duration(count)*20*time.Millisecond {
			t.Fatalf("%d of %d registered, %d parked, %d connections", registered, count, parked, openLinks(relayNode))
		}
	}
	t.Logf("%d registrations within %v", count, time.Since(begun))
	// What the handshakes needed goes away.
	var each int64
	for range 8 {
		time.Sleep(500 * time.Millisecond)
		each = (memory() - before) / int64(count)
	}
	t.Logf("%d bytes a registration; %d KiB resident", each, resident(t))
	if each > relayMemory {
		t.Errorf("%d bytes a registration, at most %d", each, relayMemory)
	}
}

// memory is what this process holds, garbage taken out.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// resident is the memory this process has from the kernel, in KiB.
func resident(t *testing.T) (kib int) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Log(err)
	}
	for line := range strings.Lines(string(b)) {
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib
		}
	}
	return 0
}

// relayClients opens nodes that register, and keeps them until its input ends.
func relayClients(t *testing.T) {
	var count int
	var at string
	if _, err := fmt.Sscan(os.Getenv(relayClientsEnv), &count, &at); err != nil {
		t.Fatal(err)
	}
	where := netip.MustParseAddrPort(at)
	for i := range count {
		testNode(t, i, nil, func(c *Config) {
			c.BootstrapRelays = func() []record.Candidate {
				return []record.Candidate{{Node: saltest.Key(9999).Node(), Locators: []netip.AddrPort{where}}}
			}
		})
	}
	fmt.Println("up")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
