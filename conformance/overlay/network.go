package overlay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/daemon/control"
)

// Port is the UDP port the nodes use.
const Port = 47700

// ErrNotReady is returned when a daemon ends, or says nothing, before "ready".
var ErrNotReady = errors.New("overlay: the daemon is not ready")

// Network is an overlay network.
type Network struct {
	binary string
	dir    string
	file   string // the network file to join with
	nodes  int
}

// New returns a network that is yet to be founded. The nodes' directories are
// made in dir, which should be short: sockets are in them, and a unix socket's
// path has at most 107 bytes.
func New(binary, dir string) *Network { return &Network{binary: binary, dir: dir} }

// Found makes the node that starts the network: bootstrap node and authority,
// to be reached at an address of the host.
func (n *Network) Found(ctx context.Context, h *netns.Host, at netip.Addr) (*Node, error) {
	node := n.node(h)
	n.file = filepath.Join(node.Dir, "network.toml")
	return node, node.init(ctx, "--new-network", "lab", "--advertise", netip.AddrPortFrom(at, Port).String())
}

// Join makes a node on a host, with further arguments of "scn init".
func (n *Network) Join(ctx context.Context, h *netns.Host, args ...string) (*Node, error) {
	node := n.node(h)
	return node, node.init(ctx, append([]string{"--network", n.file}, args...)...)
}

func (n *Network) node(h *netns.Host) *Node {
	n.nodes++
	return &Node{Host: h, Dir: filepath.Join(n.dir, fmt.Sprintf("n%d", n.nodes)), binary: n.binary}
}

// Node is a node of the network. Its methods may be called from any goroutine,
// but Up, Stop and Kill from one at a time.
type Node struct {
	Host *netns.Host
	Dir  string
	ID   string

	binary string
	daemon *netns.Cmd
	wg     sync.WaitGroup // reads the daemon's output and waits for its end
	ended  chan struct{}  // closed when the daemon has ended
}

func (n *Node) init(ctx context.Context, args ...string) error {
	out, err := n.Run(ctx, append([]string{"init"}, args...)...)
	n.ID = strings.TrimSpace(string(out))
	return err
}

// Command returns "scn --dir D args..." on the node's host.
func (n *Node) Command(ctx context.Context, args ...string) *netns.Cmd {
	return n.Host.Command(ctx, n.binary, append([]string{"--dir", n.Dir}, args...)...)
}

// Run runs the command and returns what it printed; the error has what it
// printed to standard error.
func (n *Node) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := n.Command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// Up starts the daemon, with further arguments of "scn up", and waits until it
// says that it is ready. ctx bounds the waiting, not the daemon.
func (n *Node) Up(ctx context.Context, args ...string) error {
	cmd := n.Command(context.WithoutCancel(ctx), append([]string{"up"}, args...)...)
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return err
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	n.daemon, n.ended = cmd, ended
	n.wg.Go(func() { // ends with the daemon
		defer out.Close()
		lines := bufio.NewScanner(out)
		for said := false; lines.Scan(); {
			if lines.Text() == "ready" && !said {
				said = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, out)
	})
	n.wg.Go(func() { // ends with the daemon
		_ = cmd.Wait()
		close(ended)
	})
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("%w: on %s it ended", ErrNotReady, n.Host.Name())
	case <-ctx.Done():
		return fmt.Errorf("%w: on %s: %w", ErrNotReady, n.Host.Name(), ctx.Err())
	}
}

// Stop ends the daemon as a service manager does, and waits.
func (n *Node) Stop() { n.end(syscall.SIGTERM, 20*time.Second) }

// Kill ends the daemon with kill -9 and waits. The guardian process it leaves
// is not touched.
func (n *Node) Kill() { n.end(syscall.SIGKILL, 0) }

func (n *Node) end(signal syscall.Signal, grace time.Duration) {
	if n.daemon == nil {
		return
	}
	_ = n.daemon.Process.Signal(signal)
	select {
	case <-n.ended:
	case <-time.After(grace):
		_ = n.daemon.Process.Kill()
	}
	<-n.ended
	n.wg.Wait()
	n.daemon = nil
}

// PID returns the process number of the daemon, 0 when it is not up.
func (n *Node) PID() int {
	if n.daemon == nil {
		return 0
	}
	return n.daemon.Process.Pid
}

// Serve runs "scn serve NAME ... --allow all" with further arguments.
func (n *Node) Serve(ctx context.Context, name string, args ...string) error {
	_, err := n.Run(ctx, append([]string{"serve", name, "--allow", "all"}, args...)...)
	return err
}

// Status returns "scn status --json".
func (n *Node) Status(ctx context.Context) (s control.Status, err error) {
	return s, n.Read(ctx, &s, "status", "--json")
}

// Lookup returns "scn lookup NAME --json".
func (n *Node) Lookup(ctx context.Context, name string) (l control.Lookup, err error) {
	return l, n.Read(ctx, &l, "lookup", name, "--json")
}

// Read runs a command that prints JSON, and decodes that.
func (n *Node) Read(ctx context.Context, into any, args ...string) error {
	out, err := n.Run(ctx, args...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// Resolve asks the host's own DNS server for a name until it has an address of
// the family ("ip4" or "ip6").
func (n *Node) Resolve(ctx context.Context, family, name string) (netip.Addr, error) {
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		ips, err := n.Host.Resolver().LookupNetIP(attempt, family, name)
		cancel()
		if err == nil && len(ips) > 0 {
			return ips[0].Unmap(), nil
		}
		last = err
		select {
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("%s on %s: %w (%w)", name, n.Host.Name(), last, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
