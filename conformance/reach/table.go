package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"scn.alt/scn/conformance/overlay"
)

// UDPTimeout is how long the NATs of a table keep a mapping nobody uses: the
// shortest one meets.
const UDPTimeout = 20 * time.Second

// TableConfig configures a table. The zero value is the whole table.
type TableConfig struct {
	// Kinds are the kinds of both sides. Default: all.
	Kinds []Kind
	// Delay is what each uplink adds each way. Default 5ms.
	Delay time.Duration
	// Patience is how long after the last first byte a direct way is waited for.
	// Default 20s.
	Patience time.Duration
	// Quiet is how long all sessions then say nothing before they are asked again,
	// longer than the NATs' timeout. Default 24s; below 0: not at all.
	Quiet time.Duration
}

func (c TableConfig) withDefaults() TableConfig {
	if c.Kinds == nil {
		c.Kinds = Kinds()
	}
	if c.Delay == 0 {
		c.Delay = 5 * time.Millisecond
	}
	if c.Patience == 0 {
		c.Patience = 20 * time.Second
	}
	if c.Quiet == 0 {
		c.Quiet = UDPTimeout + 4*time.Second
	}
	return c
}

// Cell is what became of one pair.
type Cell struct {
	From, To Kind
	// Err is why there was no first byte, or none after the silence.
	Err error
	// Lookup is how long the name took, FirstByte how long after it the first byte
	// took to come back.
	Lookup, FirstByte time.Duration
	// Direct says that the way became direct, ToDirect how long after the beginning
	// of the dial. Last is how the peer was reached in the end.
	Direct   bool
	ToDirect time.Duration
	Last     overlay.Sighting
	// Quiet is how long the answer to the first byte after the silence took.
	Quiet time.Duration

	conn net.Conn
}

// Table connects a client of each kind with a provider of each kind, over a TCP
// session through TUN and DNS, one after the other.
func (w *World) Table(ctx context.Context, cfg TableConfig) (cells []*Cell, err error) {
	cfg = cfg.withDefaults()
	clients, providers, err := w.sides(ctx, cfg)
	if err != nil {
		return nil, err
	}
	watches := make([]*overlay.Watch, len(clients))
	for i, c := range clients {
		watches[i] = c.Watch(20 * time.Millisecond)
	}
	defer func() {
		for _, c := range cells {
			if c.conn != nil {
				_ = c.conn.Close()
			}
		}
		for _, watch := range watches {
			err = errors.Join(err, watch.Close())
		}
	}()
	began := make(map[*Cell]time.Time)
	for i, from := range cfg.Kinds {
		for j, to := range cfg.Kinds {
			cell := &Cell{From: from, To: to}
			cells = append(cells, cell)
			began[cell] = time.Now()
			cell.dial(ctx, clients[i], service(j))
			if ctx.Err() != nil {
				return cells, context.Cause(ctx)
			}
		}
	}
	look := func() (waiting int) {
		for n, cell := range cells {
			i, j := n/len(cfg.Kinds), n%len(cfg.Kinds)
			id := providers[j].ID
			cell.Last, _ = watches[i].Now(id)
			if at, ok := watches[i].Direct(id, began[cell]); ok && !cell.Direct {
				cell.Direct, cell.ToDirect = true, at.Sub(began[cell])
			}
			if want, _ := Direct(cell.From, cell.To); want && !cell.Direct {
				waiting++
			}
		}
		return waiting
	}
	for deadline := time.Now().Add(cfg.Patience); look() > 0 && time.Now().Before(deadline); {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return cells, err
		}
	}
	if cfg.Quiet > 0 {
		if err := pause(ctx, cfg.Quiet); err != nil {
			return cells, err
		}
		var wg sync.WaitGroup
		for _, cell := range cells {
			wg.Go(cell.again)
		}
		wg.Wait()
	}
	look()
	return cells, nil
}

// sides starts a client and a provider of each kind, each at a place of its own.
func (w *World) sides(ctx context.Context, cfg TableConfig) (clients, providers []*Actor, err error) {
	for i, k := range cfg.Kinds {
		for _, side := range []struct {
			name string
			list *[]*Actor
		}{{"client", &clients}, {"provider", &providers}} {
			p := w.Place(k, Delay(cfg.Delay))
			p.SetUDPTimeout(UDPTimeout)
			*side.list = append(*side.list, w.Host(fmt.Sprintf("%s%d", side.name, i), p))
		}
	}
	all := append(append([]*Actor(nil), clients...), providers...)
	if err := w.Join(ctx, all...); err != nil {
		return nil, nil, err
	}
	for j, p := range providers {
		if err := w.serveTCP(p.Host, "127.0.0.1:7"); err != nil {
			return nil, nil, err
		}
		if err := p.Serve(ctx, service(j), "7=tcp://127.0.0.1:7"); err != nil {
			return nil, nil, err
		}
	}
	// A name is found once its record is stored; that is not what is measured.
	for j := range providers {
		if _, err := w.Founder.Resolve(ctx, "ip4", service(j)+".top"); err != nil {
			return nil, nil, err
		}
	}
	return clients, providers, nil
}

func service(j int) string { return fmt.Sprintf("site%d", j) }

// dial opens a session and waits for its first byte.
func (c *Cell) dial(ctx context.Context, client *Actor, name string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	began := time.Now()
	address, err := client.Resolve(ctx, "ip4", name+".top")
	if err != nil {
		c.Err = err
		return
	}
	c.Lookup = time.Since(began)
	began = time.Now()
	if c.conn, c.Err = client.Host.Dial(ctx, "tcp", net.JoinHostPort(address.String(), "7")); c.Err == nil {
		c.Err = roundTrip(c.conn, 20*time.Second)
	}
	c.FirstByte = time.Since(began)
	if c.Err != nil && ctx.Err() == nil {
		found, _ := client.Run(ctx, "lookup", name, "--json")
		c.Err = fmt.Errorf("after %v: %w; lookup says %s", c.FirstByte, c.Err, found)
	}
}

// again asks once more over the same session.
func (c *Cell) again() {
	if c.Err != nil {
		return
	}
	began := time.Now()
	if err := roundTrip(c.conn, 30*time.Second); err != nil {
		c.Err = fmt.Errorf("after the silence: %w", err)
	}
	c.Quiet = time.Since(began)
}

// roundTrip sends a byte to an echo and waits for it.
func roundTrip(c net.Conn, patience time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{'?'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// String says what became of the pair in a line.
func (c *Cell) String() string {
	pair := fmt.Sprintf("%s → %s", c.From, c.To)
	if c.Err != nil {
		return fmt.Sprintf("%s: %v", pair, c.Err)
	}
	text := fmt.Sprintf("%s: name %v, first byte %v", pair, round(c.Lookup), round(c.FirstByte))
	if c.Direct {
		text += fmt.Sprintf(", direct after %v", round(c.ToDirect))
	}
	if c.Quiet > 0 {
		text += fmt.Sprintf(", after a silence %v", round(c.Quiet))
	}
	return text + ", in the end " + c.Last.Path.Way
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
