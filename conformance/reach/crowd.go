package reach

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

// Crowd is a relay with many nodes registered.
type Crowd struct {
	// Registered is how many the relay says there are, Took how long that took.
	Registered int
	Took       time.Duration
	// Empty and Full are the relay's resident memory before and with them.
	Empty, Full int64
}

// openFiles is how many a node of the crowd has, with some to spare.
const openFiles = 8

// Crowd registers many nodes, all of this process, with the founder's daemon, and
// returns what that takes there. They stay for a while before it is measured, so
// that keep-alives and all are in it.
func (w *World) Crowd(ctx context.Context, count int, stay time.Duration) (c Crowd, err error) {
	limit := unix.Rlimit{Cur: uint64(count*openFiles + 4096), Max: uint64(count*openFiles + 4096)}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return c, err
	}
	if now.Cur < limit.Cur {
		limit.Max = max(limit.Max, now.Max)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return c, fmt.Errorf("%d nodes need %d open files: %w", count, limit.Cur, err)
		}
	}
	status, err := w.Founder.Status(ctx)
	if err != nil {
		return c, err
	}
	if c.Empty, err = resident(w.Founder.PID()); err != nil {
		return c, err
	}
	at := record.Candidate{
		Node: status.NodeID, Locators: []netip.AddrPort{netip.AddrPortFrom(w.Founder.Link.Addr4(), overlay.Port)},
		Expires: time.Now().Add(time.Hour),
	}
	host := w.Host("crowd", w.Place(Public)).Host
	nodes := make([]*sal.Node, 0, count)
	defer func() {
		_ = each(nodes, func(n *sal.Node) error { return n.Close() })
	}()
	began := time.Now()
	for len(nodes) < count {
		host.Do(func() {
			for range min(100, count-len(nodes)) {
				var n *sal.Node
				n, err = sal.Open(sal.Config{
					Key: identity.NewKeyFromSeed(seed(len(nodes))), Network: status.Network.ID,
					BootstrapRelays: func() []record.Candidate { return []record.Candidate{at} },
					Resolver:        deaf(at.Locators[0]),
				})
				if err != nil {
					return
				}
				nodes = append(nodes, n)
			}
		})
		if err != nil {
			return c, fmt.Errorf("node %d of %d: %w", len(nodes), count, err)
		}
		// No faster than they are taken: a flood is another measurement.
		if err := w.registered(ctx, &c, len(nodes)-500); err != nil {
			return c, err
		}
	}
	if err := w.registered(ctx, &c, count); err != nil {
		return c, err
	}
	c.Took = time.Since(began)
	if err := pause(ctx, stay); err != nil {
		return c, err
	}
	if err := w.registered(ctx, &c, count); err != nil {
		return c, err
	}
	c.Full, err = resident(w.Founder.PID())
	return c, err
}

// registered waits until the relay says that so many nodes are registered.
func (w *World) registered(ctx context.Context, c *Crowd, want int) error {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		status, err := w.Founder.Status(ctx)
		if err != nil {
			return err
		}
		if status.Relay != nil {
			c.Registered = status.Relay.Registrations
		}
		if c.Registered >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("reach: %d nodes are registered, not %d", c.Registered, want)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func seed(n int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("crowd"), uint64(n)))
}

// resident returns a process's resident memory in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d does not say its memory", pid)
}
