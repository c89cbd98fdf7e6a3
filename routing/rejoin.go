package routing

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// Pauses of the loop that keeps the node in the network.
const (
	// longestRetry bounds the back-off while no peer is connected.
	longestRetry = 15 * time.Second
	// idleCheck is how often a connected node looks at itself.
	idleCheck = 5 * time.Second
	// healInterval is how often a connected node makes sure it also knows a
	// bootstrap node, so that two halves of a network find together again.
	healInterval = 5 * time.Minute
)

// kickRejoin has the node look at once whether it is still in the network.
func (r *Router) kickRejoin() {
	select {
	case r.rejoinNow <- struct{}{}:
	default:
	}
}

// Kick has the node find out at once which of its DHT peers still answer, look for
// others if none does, and put its record: the machine was suspended, or the network
// changed without a change of address. It returns at once.
func (r *Router) Kick() {
	r.mu.Lock()
	if item := r.kept[nodeKey(r.self)]; item != nil {
		r.dueLocked(item, time.Now())
	}
	r.mu.Unlock()
	select {
	case r.probeNow <- struct{}{}:
	default:
	}
}

// rejoin keeps the node in the network until ctx ends: it connects to bootstrap
// nodes and to peers seen recently whenever no peer is left, with back-off.
func (r *Router) rejoin(ctx context.Context) error {
	pause, lost, ever := r.cfg.retry, true, false
	healed := time.Now()
	for {
		wait := idleCheck
		if r.joined() {
			pause = r.cfg.retry
			if lost {
				lost = false
				if ever {
					r.counters.rejoins.Add(1)
				}
				ever = true
				r.log.Info("connected to the DHT", "peers", len(r.connected()))
				r.refreshTable(ctx)
			}
			if time.Since(healed) > healInterval {
				healed = time.Now()
				r.dial(ctx, r.bootstrapPeers())
			}
		} else {
			if !lost {
				r.log.Warn("all DHT peers lost")
				lost = true
			}
			r.spawn(r.probe)
			if r.dial(ctx, r.acquaintances()) {
				// Whoever answered is being checked for a place in the routing table.
				r.refreshTable(ctx)
				wait = r.cfg.retry / 4
			} else {
				wait = jitter(pause)
			}
			pause = min(2*pause, longestRetry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.rejoinNow:
			timer.Stop()
			pause = r.cfg.retry
		case <-r.probeNow:
			timer.Stop()
			pause = r.cfg.retry
			r.probe(ctx)
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// probe asks all connected DHT peers for a sign of life and closes the connections
// of those that give none: QUIC itself would wait for half a minute.
func (r *Router) probe(ctx context.Context) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, p := range r.connected() {
		if !r.isServer(p) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := r.messenger.Ping(ctx, p); err != nil && ctx.Err() == nil {
				r.log.Debug("no sign of life", "peer", p, "err", err)
				_ = r.host.Network().ClosePeer(p)
			}
		})
	}
	wg.Wait()
}

// joined reports whether the node is in touch with a node of the DHT.
func (r *Router) joined() bool {
	return len(r.connected()) > 0 && r.dht.RoutingTable().Size() > 0
}

// refreshTable has kad-dht fill its routing table from the connected peers.
func (r *Router) refreshTable(ctx context.Context) {
	if err := r.dht.Bootstrap(ctx); err != nil {
		r.log.Debug("refresh routing table", "err", err)
	}
}

// connected lists the connected peers.
func (r *Router) connected() []peer.ID { return r.host.Network().Peers() }

// bootstrapPeers are the network file's, in random order.
func (r *Router) bootstrapPeers() []peer.AddrInfo {
	file := r.Network()
	var out []peer.AddrInfo
	for _, b := range file.Bootstrap {
		if p, err := peerOf(b.Node); err == nil && b.Node != r.self {
			out = append(out, peer.AddrInfo{ID: p, Addrs: dhtAddrs(r.reach.filter(b.Addresses, MaxAddresses))})
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// neighbours are some of those Config.Neighbours knows, with whatever else is known
// of where they are.
func (r *Router) neighbours() []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, c := range r.cfg.Neighbours() {
		p, err := peerOf(c.Node)
		addresses := r.reach.filter(c.Locators, MaxAddresses)
		if err != nil || c.Node == r.self || len(addresses) == 0 {
			continue
		}
		r.host.Peerstore().AddAddrs(p, dhtAddrs(addresses), peerstore.TempAddrTTL)
		out = append(out, r.host.Peerstore().PeerInfo(p))
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), askedNeighbours)]
}

// Peers asked for the way back in one attempt, all at once: the attempt ends within
// one request's time, and the next one picks others.
const (
	askedNeighbours = 8
	askedBootstraps = 8
	askedOthers     = 8
	askedAtOnce     = askedNeighbours + askedBootstraps + askedOthers
)

// acquaintances picks peers to ask for the way back: neighbours, bootstrap nodes,
// nodes of the routing table, and those seen in earlier lives.
func (r *Router) acquaintances() []peer.AddrInfo {
	out := r.bootstrapPeers()
	out = out[:min(len(out), askedBootstraps)]
	neighbours := r.neighbours()
	out = append(neighbours, slices.DeleteFunc(out, func(b peer.AddrInfo) bool {
		return slices.ContainsFunc(neighbours, func(n peer.AddrInfo) bool { return n.ID == b.ID })
	})...)
	others := r.recent.infos()
	for _, p := range r.dht.RoutingTable().ListPeers() {
		others = append(others, r.host.Peerstore().PeerInfo(p))
	}
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	seen := map[peer.ID]bool{}
	for _, info := range out {
		seen[info.ID] = true
	}
	for _, info := range others {
		if !seen[info.ID] && len(out) < askedAtOnce {
			seen[info.ID] = true
			out = append(out, info)
		}
	}
	return out
}

// arrivals gives the kept records to peers that come in and are among the closest
// to them. In a small network a node that restarted would else be without them
// until the next refresh.
func (r *Router) arrivals(ctx context.Context) error {
	events, err := r.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(256))
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }()
	served := map[peer.ID]time.Time{}
	waiting := map[peer.ID]bool{}
	var ready <-chan time.Time
	var saved time.Time
	for {
		select {
		case e, ok := <-events.Out():
			if !ok {
				return nil
			}
			p := e.(event.EvtPeerIdentificationCompleted).Peer
			r.greet(p)
			if time.Since(served[p]) > 20*time.Second && len(waiting) < 64 {
				waiting[p] = true
				if ready == nil {
					// Its place in the routing table is being checked meanwhile.
					ready = time.After(400 * time.Millisecond)
				}
			}
		case <-ready:
			ready = nil
			for p := range waiting {
				served[p] = time.Now()
				r.give(ctx, p)
			}
			clear(waiting)
			if len(served) > 1024 {
				clear(served)
			}
			r.rememberPeers()
			if time.Since(saved) > 10*time.Second {
				saved = time.Now()
				r.savePeers()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// greet gives a peer that came in this node's record, if nobody stored it since it
// changed, and asks the peer for what is being looked for.
func (r *Router) greet(p peer.ID) {
	if !r.isServer(p) {
		return
	}
	r.mu.Lock()
	var unsaid *recpb.Record
	if item := r.kept[nodeKey(r.self)]; item != nil && item.value != nil && item.published.Before(item.made) && r.describes(item.opened) {
		unsaid = &recpb.Record{Key: []byte(item.key), Value: item.value}
	}
	wanted := make(map[string]*flight)
	for key, running := range r.flights {
		if strings.HasPrefix(key, nodePrefix) && len(wanted) < maxGift {
			wanted[key] = running[len(running)-1]
		}
	}
	r.mu.Unlock()
	if unsaid != nil {
		r.spawn(func(ctx context.Context) { r.putTo(ctx, p, unsaid) })
	}
	if len(wanted) == 0 {
		return
	}
	r.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, r.cfg.RequestTimeout)
		defer cancel()
		for key, f := range wanted {
			if ctx.Err() != nil {
				return
			}
			r.ask(ctx, key, f, []peer.ID{p})
		}
	})
}

// maxGift bounds the records given to a peer that came in.
const maxGift = 64

// give puts the kept records that a peer should have at that peer.
func (r *Router) give(ctx context.Context, p peer.ID) {
	table := r.dht.RoutingTable()
	if table.Find(p) == "" {
		return
	}
	var gifts []*recpb.Record
	r.mu.Lock()
	for key, item := range r.kept {
		if item.value != nil && len(gifts) < maxGift {
			gifts = append(gifts, &recpb.Record{Key: []byte(key), Value: item.value})
		}
	}
	r.mu.Unlock()
	for _, rec := range gifts {
		if r.validator.Validate(string(rec.GetKey()), rec.GetValue()) != nil {
			continue
		}
		for _, near := range table.NearestPeers(kb.ConvertKey(string(rec.GetKey())), replicas) {
			if near == p {
				if !r.putTo(ctx, p, rec) && ctx.Err() != nil {
					return
				}
				break
			}
		}
	}
}

// supersede closes the older connections of a peer that calls from another address:
// it has moved, and what is sent on them is lost.
func (r *Router) supersede(c network.Conn) {
	now, ok := salAddr(c.RemoteMultiaddr())
	if !ok {
		return
	}
	r.spawn(func(context.Context) {
		for _, old := range r.host.Network().ConnsToPeer(c.RemotePeer()) {
			before, ok := salAddr(old.RemoteMultiaddr())
			if ok && before.Addr() != now.Addr() && c.Stat().Opened.Sub(old.Stat().Opened) > time.Second {
				_ = old.Close()
			}
		}
	})
}

// notifiee hears of libp2p's connections.
func (r *Router) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(n network.Network, c network.Conn) {
			r.sources.note(c)
			r.supersede(c)
			if len(n.Peers()) == 1 {
				r.kickRejoin()
			}
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			r.sources.forget(c)
			if len(n.Peers()) == 0 {
				r.kickRejoin()
			}
		},
	}
}
