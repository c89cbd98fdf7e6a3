package routing

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// sources remembers the local address of each connection. libp2p knows only what it
// listens on, which is usually the unspecified address.
type sources struct {
	mu     sync.Mutex // guards below
	of     map[network.Conn]netip.Addr
	dialed map[*quic.Conn]netip.Addr
}

func newSources() *sources {
	return &sources{of: map[network.Conn]netip.Addr{}, dialed: map[*quic.Conn]netip.Addr{}}
}

// sourceTowards asks the kernel which address it uses towards a peer. It is the zero
// address when there is no route.
func sourceTowards(to ma.Multiaddr) netip.Addr {
	remote, ok := salAddr(to)
	if !ok {
		return netip.Addr{}
	}
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote)) // sends nothing
	if err != nil {
		return netip.Addr{}
	}
	local := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	_ = probe.Close()
	return local
}

// left notes where a dialled connection left from, until it ends.
func (s *sources) left(c interface{ As(any) bool }, source netip.Addr) {
	var q *quic.Conn
	if !c.As(&q) {
		return
	}
	s.mu.Lock()
	s.dialed[q] = source
	s.mu.Unlock()
	context.AfterFunc(q.Context(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.dialed, q)
	})
}

// note takes over what is known of a connection: where it left from, or where the
// peer's packets came to. Where neither is known the kernel is asked.
func (s *sources) note(c network.Conn) {
	var q *quic.Conn
	var at netip.Addr
	if c.As(&q) {
		if local, ok := q.LocalAddr().(*net.UDPAddr); ok {
			at = local.AddrPort().Addr().Unmap()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if source, ok := s.dialed[q]; ok {
		at = source
	}
	if !at.IsValid() || at.IsUnspecified() {
		at = sourceTowards(c.RemoteMultiaddr())
	}
	s.of[c] = at
}

func (s *sources) forget(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, c)
}

// from returns the connections of addresses that are gone.
func (s *sources) from(gone func(netip.Addr) bool) (out []network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, a := range s.of {
		if gone(a) {
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
	// At once, so that nobody who sends from now on sends on them.
	if len(gone) > 0 || len(before) == 0 {
		r.era.next()
	}
	stale := r.sources.from(func(a netip.Addr) bool {
		// With no address to leave from, packets left with the TUN's.
		return slices.Contains(gone, a) || len(gone) > 0 && r.reach.exclude(a)
	})
	peers := make([]peer.ID, 0, len(stale))
	for _, c := range stale {
		peers = append(peers, c.RemotePeer())
		_ = c.Close()
	}
	r.spawn(func(ctx context.Context) {
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
		if len(gone) > 0 {
			r.probe(ctx) // what left from where nobody knows
		}
	})
}

// connect dials peers whose addresses the peerstore has.
func (r *Router) connect(ctx context.Context, peers []peer.ID) {
	infos := make([]peer.AddrInfo, 0, len(peers))
	for _, p := range peers {
		infos = append(infos, r.host.Peerstore().PeerInfo(p))
	}
	r.dial(ctx, infos)
}

// dialTries is how often a peer is dialled that cannot be reached at once: while this
// node moves, a dial may join one that has failed already.
const dialTries = 3

// dial connects to peers, some at a time, each within one request's time. It
// returns as soon as one is connected, while the others go on, and reports whether
// any is.
func (r *Router) dial(ctx context.Context, infos []peer.AddrInfo) bool {
	var wg sync.WaitGroup
	slots := make(chan struct{}, askedAtOnce)
	connected, ended := make(chan struct{}, 1), make(chan struct{})
	r.spawn(func(life context.Context) {
		defer close(ended)
		for _, info := range infos {
			if info.ID == r.host.ID() || !r.gater.admit(info.ID) {
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if !r.dialOne(life, info) {
					return
				}
				select {
				case connected <- struct{}{}:
				default:
				}
			})
		}
		wg.Wait()
	})
	select {
	case <-connected:
		return true
	case <-ended:
		return len(connected) > 0
	case <-ctx.Done():
	case <-r.life.Done():
	}
	return false
}

// dialOne connects to one peer.
func (r *Router) dialOne(ctx context.Context, info peer.AddrInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.RequestTimeout)
	defer cancel()
	for try := range dialTries {
		if try > 0 && !sleep(ctx, 50*time.Millisecond) {
			return false
		}
		// What failed while this node was away says nothing about now.
		r.swarm.Backoff().Clear(info.ID)
		r.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
		err := r.host.Connect(ctx, info)
		if err == nil {
			return true
		}
		r.log.Debug("connect", "peer", info.ID, "err", err)
	}
	return false
}
