package routing

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

// sources remembers from which local address each connection left. libp2p knows
// only what it listens on, which is usually the unspecified address.
type sources struct {
	mu sync.Mutex
	of map[network.Conn]netip.Addr // guarded by mu
}

// note asks the kernel which address it uses towards the peer.
func (s *sources) note(c network.Conn) {
	remote, ok := salAddr(c.RemoteMultiaddr())
	if !ok {
		return
	}
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote)) // sends nothing
	if err != nil {
		return
	}
	local := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	_ = probe.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[c] = local
}

func (s *sources) forget(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, c)
}

// from returns the connections that left from one of the addresses.
func (s *sources) from(gone []netip.Addr) (out []network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, a := range s.of {
		if slices.Contains(gone, a) {
			out = append(out, c)
		}
	}
	return out
}

// relocate makes libp2p follow a change of addresses at once: by itself it would
// notice up to a minute later.
func (r *Router) relocate(before, now []netip.AddrPort) {
	var gone []netip.Addr
	for _, a := range before {
		if !slices.ContainsFunc(now, func(b netip.AddrPort) bool { return a.Addr() == b.Addr() }) {
			gone = append(gone, a.Addr())
		}
	}
	r.spawn(func(ctx context.Context) {
		stale := r.sources.from(gone)
		peers := make([]peer.ID, 0, len(stale))
		for _, c := range stale {
			peers = append(peers, c.RemotePeer())
			_ = c.Close()
		}
		// Identify takes this as its cue to tell every connected peer; the addresses
		// themselves it asks of the host, and so of us.
		if err := r.announce.Emit(event.EvtLocalAddressesUpdated{}); err != nil {
			r.log.Debug("announce addresses", "err", err)
		}
		if len(now) == 0 {
			return
		}
		slices.Sort(peers)
		r.connect(ctx, slices.Compact(peers))
		r.kickRejoin()
	})
}

// connect dials peers whose addresses the peerstore has, a few at a time, and
// returns how many are connected.
func (r *Router) connect(ctx context.Context, peers []peer.ID) int {
	infos := make([]peer.AddrInfo, 0, len(peers))
	for _, p := range peers {
		infos = append(infos, r.host.Peerstore().PeerInfo(p))
	}
	return r.dial(ctx, infos)
}

// dial connects to peers, sixteen at a time, each within one request's time, and
// returns how many succeeded.
func (r *Router) dial(ctx context.Context, infos []peer.AddrInfo) int {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		count int
		slots = make(chan struct{}, askedBootstraps+askedOthers)
	)
	for _, info := range infos {
		if info.ID == r.host.ID() || !r.gater.admit(info.ID) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, r.cfg.RequestTimeout)
			defer cancel()
			// What failed while this node was away says nothing about now.
			r.swarm.Backoff().Clear(info.ID)
			r.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
			if err := r.host.Connect(ctx, info); err != nil {
				r.log.Debug("connect", "peer", info.ID, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			count++
		})
	}
	wg.Wait()
	return count
}
