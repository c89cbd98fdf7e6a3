package reach

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// Crowd is a relay with many nodes registered.
type Crowd struct {
	// Registered is how many the relay says there are, Took how long that took.
	Registered int
	Took       time.Duration
	// Processes is how many the nodes are spread over.
	Processes int
	// Empty and Full are the relay's resident memory before and with them.
	Empty, Full int64
}

// PerNode is how much of the relay's memory one of the nodes takes.
func (c Crowd) PerNode() int64 { return (c.Full - c.Empty) / int64(max(1, c.Registered)) }

// Crowd registers many nodes with the founder's daemon, and returns what that takes
// there. They are of copies of this program, whose main calls [Populate]: one process
// may not open files enough for all. They stay for a while before it is measured, so
// that keep-alives and all are in it.
func (w *World) Crowd(ctx context.Context, count int, stay time.Duration) (c Crowd, err error) {
	most, err := nodesPerProcess()
	if err != nil {
		return c, err
	}
	status, err := w.Founder.Status(ctx)
	if err != nil {
		return c, err
	}
	if c.Empty, err = resident(w.Founder.PID()); err != nil {
		return c, err
	}
	host := w.Host("crowd", w.Place(Public)).Host
	ctx, cancel := context.WithCancel(ctx)
	var parts []*netns.Cmd
	defer func() {
		cancel() // kills them
		for _, p := range parts {
			_ = p.Wait()
		}
	}()
	began := time.Now()
	for first := 0; first < count; first += most {
		part := population{
			Relay: status.NodeID, Network: status.Network.ID, First: first, Count: min(most, count-first),
			At: netip.AddrPortFrom(w.Founder.Link.Addr4(), overlay.Port),
		}
		cmd, err := part.command(ctx, host)
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return c, err
		}
		parts = append(parts, cmd)
		// One after the other: a flood is another measurement.
		if err := w.registered(ctx, &c, first+part.Count-registeringMost); err != nil {
			return c, err
		}
	}
	c.Took, c.Processes = time.Since(began), len(parts)
	if err := pause(ctx, stay); err != nil {
		return c, err
	}
	if err := w.registered(ctx, &c, count); err != nil {
		return c, err
	}
	c.Full, err = resident(w.Founder.PID())
	return c, err
}

// patience is how long no further node may be registered before the rest are given up.
// On a busy machine some are not answered in time, and wait longer after each try.
const patience = 3 * time.Minute

// registered waits until the relay says that so many nodes are registered.
func (w *World) registered(ctx context.Context, c *Crowd, want int) error {
	for deadline := time.Now().Add(patience); ; {
		status, err := w.Founder.Status(ctx)
		if err != nil {
			return err
		}
		if r := status.Relay; r != nil {
			if r.Registrations > c.Registered {
				deadline = time.Now().Add(patience)
			}
			c.Registered = r.Registrations
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
