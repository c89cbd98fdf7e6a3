package suite

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

func TestMain(m *testing.M) { netns.Main(m) }

// The networks of the world. Those of client and provider come in pairs, to move
// between.
const (
	core = iota
	home
	cafe
	rack1
	rack2
	narrow1280 // the router's port has this MTU
	narrow1124
	networks
)

// world is the topology of most tests: an authority that stays, a client and a
// provider that move.
//
//	authority ── core ──┐         ┌── rack1, rack2 ── provider
//	client ── home, cafe ── router ── narrow1280, narrow1124
type world struct {
	*overlay.Internet
	network   *overlay.Network
	authority *actor
	client    *actor
	provider  *actor
	number    int // the next host number, so that no address comes twice
}

type actor struct {
	*overlay.Node
	host *netns.Host
	link *netns.Link
}

// require skips the test unless the programs are there.
func require(t *testing.T, programs ...string) {
	t.Helper()
	netns.Require(t, func() error {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				return err
			}
		}
		return netns.TUNAccess()
	})
}

// shortDir is a directory with a short path: a unix socket's has 107 bytes at
// most, and a test's own is longer.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scn") //nolint:usetesting // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newWorld builds the topology and starts the three daemons.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, false)
}

// newWorldOn is newWorld, on networks of IPv6 alone when only6 is set.
func newWorldOn(t *testing.T, only6 bool) *world {
	t.Helper()
	require(t)
	lab := netns.Test(t)
	dir := shortDir(t)
	binary, err := overlay.Binary(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{network: overlay.New(binary, dir), number: 10}
	if only6 {
		w.Internet = overlay.NewInternet6(lab, networks)
	} else {
		w.Internet = overlay.NewInternet(lab, networks)
		w.Ports[narrow1124].SetMTU(1124)
	}
	w.Ports[narrow1280].SetMTU(1280)
	w.authority = w.actor("authority", core)
	w.client = w.actor("client", home)
	w.provider = w.actor("provider", rack1)
	ctx := within(t, 90*time.Second)
	w.authority.Node, err = w.network.Found(ctx, w.authority.host, w.authority.link.Addr())
	must(t, err)
	must(t, w.authority.Up(ctx))
	w.join(t, w.client, w.provider)
	return w
}

// actor adds a host without a node.
func (w *world) actor(name string, network int) *actor {
	a := &actor{}
	a.host, a.link = w.Host(name, network, w.next())
	return a
}

func (w *world) next() int {
	w.number++
	return w.number
}

// join makes nodes of hosts and starts them, all at once.
func (w *world) join(t *testing.T, actors ...*actor) {
	t.Helper()
	ctx := within(t, 90*time.Second)
	for _, a := range actors {
		var err error
		a.Node, err = w.network.Join(ctx, a.host)
		must(t, err)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(actors))
	for i, a := range actors {
		wg.Go(func() { errs[i] = a.Up(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		must(t, err)
	}
}

// serve gives a service a name on the provider and waits until the client can
// resolve it.
func (w *world) serve(t *testing.T, name string, targets ...string) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	must(t, w.provider.Serve(ctx, name, targets...))
	_, err := w.client.Resolve(ctx, "ip4", name+".top")
	must(t, err)
}

// echo starts a UDP echo server as service NAME on the provider, and an echo on
// the client, and waits until it is steady.
func (w *world) echo(t *testing.T, name string) *overlay.Echo {
	t.Helper()
	server, err := overlay.ServeEcho(w.provider.host, "127.0.0.1:7")
	must(t, err)
	t.Cleanup(func() { server.Close() })
	w.serve(t, name, "7=udp://127.0.0.1:7")
	e, err := overlay.StartEcho(t.Context(), w.client.host, name+".top:7")
	must(t, err)
	t.Cleanup(func() { e.Close() })
	must(t, e.Settle(within(t, 20*time.Second), 300*time.Millisecond))
	return e
}

// move takes a host to a network, under an address it never had.
func (w *world) move(a *actor, network int) { a.link.Move(w.LANs[network], w.next()) }

// scene is one change of addresses.
type scene struct {
	name string
	play func(w *world)
}

// moves are the three kinds of moves, each between networks of full MTU.
var moves = []scene{
	{"client moves", func(w *world) { w.move(w.client, w.other(w.client, home, cafe)) }},
	{"provider moves", func(w *world) { w.move(w.provider, w.other(w.provider, rack1, rack2)) }},
	{"both move", func(w *world) {
		var wg sync.WaitGroup
		client, provider := w.next(), w.next()
		to, away := w.other(w.client, home, cafe), w.other(w.provider, rack1, rack2)
		wg.Go(func() { w.client.link.Move(w.LANs[to], client) })
		wg.Go(func() { w.provider.link.Move(w.LANs[away], provider) })
		wg.Wait()
	}},
}

// other returns the one of two networks an actor is not on.
func (w *world) other(a *actor, first, second int) int {
	if a.link.Switch() == w.LANs[first] {
		return second
	}
	return first
}

// within returns a context that ends after d, or with the test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("this took more than %v", d))
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually calls check until it returns nil.
func eventually(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", d, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func writeFile(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
	return path
}
