package reach

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/conformance/wire"
)

// World is a small Internet with an overlay network on it.
type World struct {
	Lab      *netns.Lab
	Internet *netns.Host // the router in the middle; it filters nothing
	Network  *overlay.Network
	// Founder started the network and is a relay. Second is another public node
	// and relay: an address is believed when two say it.
	Founder, Second *Actor

	core   *netns.Switch
	places int
	wg     sync.WaitGroup // servers and their connections

	mu      sync.Mutex // guards below
	closed  bool
	closers map[io.Closer]struct{}
}

// Close ends the servers of the measures and waits for them. The lab takes the
// rest away.
func (w *World) Close() error {
	w.mu.Lock()
	w.closed = true
	for c := range w.closers {
		_ = c.Close() // a connection may have ended by itself
	}
	w.mu.Unlock()
	w.wg.Wait()
	return nil
}

// own makes Close close c, and reports false when it has been called.
func (w *World) own(c io.Closer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.closers == nil {
		w.closers = make(map[io.Closer]struct{})
	}
	w.closers[c] = struct{}{}
	return true
}

// release closes c now.
func (w *World) release(c io.Closer) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.closers, c)
}

// serveTCP answers every connection to a host's address with what it sends.
func (w *World) serveTCP(h *netns.Host, address string) error {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return err
	}
	w.own(l)
	w.wg.Go(func() { // ends when Close closes the listener
		for {
			c, err := l.Accept()
			if err != nil || !w.own(c) {
				return
			}
			w.wg.Go(func() { // ends with the connection
				defer w.release(c)
				_, _ = io.Copy(c, c)
			})
		}
	})
	return nil
}

// ServeEcho answers UDP packets to a host's address.
func (w *World) ServeEcho(h *netns.Host, address string) error {
	s, err := overlay.ServeEcho(h, address)
	if err == nil {
		w.own(s)
	}
	return err
}

// Actor is a host with a node on it.
type Actor struct {
	*overlay.Node
	Host  *netns.Host
	Link  *netns.Link
	Place *Place // nil in the core
}

// Config configures a World.
type Config struct {
	// Lab is where it is built. Required.
	Lab *netns.Lab
	// Binary is an scn binary. Required.
	Binary string
	// Dir is a directory for the nodes, with a short path. Required.
	Dir string
	// NoRelays makes a network in which nobody relays, for comparison.
	NoRelays bool
	// OneRelay makes the founder the only relay.
	OneRelay bool
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Lab == nil {
		errs = append(errs, errors.New("reach: Config.Lab is required"))
	}
	if c.Binary == "" {
		errs = append(errs, errors.New("reach: Config.Binary is required"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("reach: Config.Dir is required"))
	}
	return errors.Join(errs...)
}

// Open builds the Internet and starts its public nodes. ctx bounds the starting.
func Open(ctx context.Context, cfg Config) (*World, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := &World{Lab: cfg.Lab, Network: overlay.New(cfg.Binary, cfg.Dir)}
	w.Internet = w.Lab.Router("internet")
	w.core = w.Lab.Switch("core", "51.0.0.0/24")
	w.Internet.Attach(w.core, 1)
	w.Founder = &Actor{Host: w.Lab.Host("founder")}
	w.Founder.Link = w.Founder.Host.Attach(w.core, 2)
	w.Second = &Actor{Host: w.Lab.Host("second")}
	w.Second.Link = w.Second.Host.Attach(w.core, 3)
	var err error
	if w.Founder.Node, err = w.Network.Found(ctx, w.Founder.Host, w.Founder.Link.Addr4()); err != nil {
		return nil, err
	}
	// The relays' quotas are for small machines; here they are not what is measured.
	yes := []string{"--relay-enabled=true", "--relay-per-node-mbit=10000", "--relay-total-mbit=20000"}
	no := []string{"--relay-enabled=false"}
	first, second := yes, yes
	if cfg.NoRelays {
		first = no
	}
	if cfg.NoRelays || cfg.OneRelay {
		second = no
	}
	if err := w.Founder.Up(ctx, first...); err != nil {
		return nil, err
	}
	if w.Second.Node, err = w.Network.Join(ctx, w.Second.Host); err != nil {
		return nil, err
	}
	return w, w.Second.Up(ctx, second...)
}

// Host adds a host without a node.
func (w *World) Host(name string, at *Place) *Actor {
	a := &Actor{Host: w.Lab.Host(name), Place: at}
	a.Link = a.Host.Attach(at.LAN, at.next())
	return a
}

// Join makes nodes of hosts and starts them, all at once.
func (w *World) Join(ctx context.Context, actors ...*Actor) error {
	for _, a := range actors {
		var err error
		if a.Node, err = w.Network.Join(ctx, a.Host); err != nil {
			return err
		}
	}
	return each(actors, func(a *Actor) error { return a.Up(ctx) })
}

// each calls f for all at once and joins the errors.
func each[T any](list []T, f func(T) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(list))
	for i, v := range list {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Move takes a host to another place, under a number no host had there: a new
// address, and a NAT that knows nothing of it.
func (a *Actor) Move(to *Place) {
	a.Link.Move(to.LAN, to.next())
	a.Place = to
}

// Delay is the condition of an uplink whose packets take this long each way.
func Delay(d time.Duration) wire.Conditions { return wire.Conditions{Delay: d} }

// coreAddress is the address of a host in the core.
func (w *World) coreAddress(n int) netip.Addr { return w.core.Addr4(n) }
