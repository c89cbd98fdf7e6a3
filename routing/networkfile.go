package routing

import (
	"context"
	"fmt"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// Network returns the network file in force.
func (r *Router) Network() network.File { return *r.file.Load() }

// PublishNetwork takes over a newer network file and puts it into the DHT. It
// refuses an older one, or a second one of the same number.
func (r *Router) PublishNetwork(ctx context.Context, f network.File) (Receipt, error) {
	key := networkKey(f.ID)
	o, err := r.validator.open(key, f.Bytes())
	if err != nil {
		return Receipt{}, err
	}
	if err := network.CheckUpdate(r.Network(), f); err != nil {
		return Receipt{}, err
	}
	r.adopt(f)
	return r.publish(ctx, r.hold(key, f.Bytes(), o, identity.PrivateKey{}, time.Now().Add(backstop)))
}

// LookupNetwork asks the DHT for the network file and returns the newest one now
// known.
func (r *Router) LookupNetwork(ctx context.Context) (network.File, error) {
	_, _, err := r.newest(ctx, networkKey(r.Network().ID), r.cfg.LookupTimeout)
	r.adoptFound()
	if err != nil && ctx.Err() != nil {
		return network.File{}, fmt.Errorf("look up the network file: %w", err)
	}
	return r.Network(), nil
}

// watchNetwork looks for a newer network file now and then. Nodes the file names
// also put it, so that it outlives its founder's absence; so does any node that
// finds none or an older one.
func (r *Router) watchNetwork(ctx context.Context) error {
	key := networkKey(r.Network().ID)
	pause := r.cfg.retry
	for {
		timer := time.NewTimer(jitter(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if r.dht.RoutingTable().Size() == 0 {
			pause = min(2*pause, 10*time.Second)
			continue
		}
		r.cache.forget(key)
		_, _, err := r.newest(ctx, key, r.cfg.LookupTimeout)
		e, found := r.cache.get(key)
		r.adoptFound()
		file := r.Network()
		if err == nil && found && compareFile(e, file) >= 0 && !r.isListed(file) {
			pause = r.cfg.RefreshInterval
			continue
		}
		if _, err := r.put(ctx, key, file.Bytes()); err != nil {
			r.log.Debug("network file not put", "err", err)
		}
		pause = r.cfg.RefreshInterval
	}
}

// isListed reports whether this node is one the file names.
func (r *Router) isListed(f network.File) bool {
	return f.IsBootstrap(r.self) || f.IsAuthority(r.self)
}

// compareFile orders a found file and the one in force.
func compareFile(e entry, f network.File) int {
	found, ok := e.opened.decoded.(network.File)
	if !ok {
		return -1
	}
	return network.Compare(found, f)
}

// adoptFound takes over what a lookup left in the cache.
func (r *Router) adoptFound() {
	if e, ok := r.cache.get(networkKey(r.Network().ID)); ok {
		if f, ok := e.opened.decoded.(network.File); ok {
			r.adopt(f)
		}
	}
}

// adopt takes over a newer network file and has its owner told. Files are ordered as
// every node orders them, so all end up with the same one.
func (r *Router) adopt(f network.File) {
	r.adopting.Lock()
	defer r.adopting.Unlock()
	old := r.Network()
	if network.Compare(f, old) <= 0 {
		return
	}
	r.file.Store(&f)
	r.counters.networksAdopted.Add(1)
	r.log.Info("network file adopted", "sequence", f.Sequence)
	// What an earlier authority signed counts no more, and who is no longer
	// admitted must go.
	r.validator.purge()
	r.cache.purge()
	r.store.recheck()
	for _, p := range r.host.Network().Peers() {
		if !r.gater.admit(p) {
			r.dht.RoutingTable().RemovePeer(p)
			_ = r.host.Network().ClosePeer(p)
		}
	}
	select {
	case r.networkNews <- struct{}{}:
	default: // told of the newest one anyway
	}
}

// tellNetwork tells the owner of newer network files, one at a time.
func (r *Router) tellNetwork(ctx context.Context) error {
	for {
		select {
		case <-r.networkNews:
			r.cfg.NetworkChanged(r.Network())
		case <-ctx.Done():
			return nil
		}
	}
}
