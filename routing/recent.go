package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// maxAcquaintances bounds the peers remembered for the way back.
const maxAcquaintances = 64

// maxRecentFile bounds the file of recent peers.
const maxRecentFile = 64 << 10

// acquaintance is a DHT peer seen connected, with its SAL addresses.
//
// Rules for adding a field: next integer key, omitempty. The file is only a hint:
// one that cannot be read is as good as none.
type acquaintance struct {
	Node      identity.NodeID  `cbor:"1,keyasint"`
	Addresses []record.Locator `cbor:"2,keyasint"`
}

// recentPeers remembers the DHT peers of this and earlier lives, for when every
// bootstrap node is gone.
type recentPeers struct {
	path string // empty: not persisted

	mu    sync.Mutex
	peers []acquaintance // newest first; guarded by mu
	dirty bool           // guarded by mu
}

// openRecent reads the file of earlier lives. An error comes with a usable value.
func openRecent(dir string) (*recentPeers, error) {
	if dir == "" {
		return &recentPeers{}, nil
	}
	p := &recentPeers{path: filepath.Join(dir, "peers")}
	b, err := os.ReadFile(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read recent peers: %w", err)
	}
	p.peers, err = parseRecent(b)
	return p, err
}

func parseRecent(b []byte) ([]acquaintance, error) {
	if len(b) > maxRecentFile {
		return nil, fmt.Errorf("recent peers: %d bytes, at most %d", len(b), maxRecentFile)
	}
	var peers []acquaintance
	if err := identity.Unmarshal(b, &peers); err != nil {
		return nil, fmt.Errorf("recent peers: %w", err)
	}
	return peers[:min(len(peers), maxAcquaintances)], nil
}

// add remembers peers as seen now.
func (p *recentPeers) add(seen []acquaintance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	merged := slices.Clone(seen)
	for _, old := range p.peers {
		if !slices.ContainsFunc(seen, func(a acquaintance) bool { return a.Node == old.Node }) {
			merged = append(merged, old)
		}
	}
	merged = merged[:min(len(merged), maxAcquaintances)]
	p.dirty = p.dirty || !slices.EqualFunc(merged, p.peers, func(a, b acquaintance) bool {
		return a.Node == b.Node && slices.Equal(a.Addresses, b.Addresses)
	})
	p.peers = merged
}

// save writes the peers to disk when they changed.
func (p *recentPeers) save() error {
	p.mu.Lock()
	peers, dirty := p.peers, p.dirty
	p.dirty = false
	p.mu.Unlock()
	if p.path == "" || !dirty {
		return nil
	}
	b, err := identity.Marshal(peers)
	if err != nil {
		return err
	}
	return renameio.WriteFile(p.path, b, 0o600)
}

// infos returns the remembered peers for libp2p to dial.
func (p *recentPeers) infos() (out []peer.AddrInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.peers {
		id, err := peerOf(a.Node)
		if err != nil {
			continue
		}
		var addresses []netip.AddrPort
		for _, l := range a.Addresses {
			addresses = append(addresses, l.AddrPort)
		}
		out = append(out, peer.AddrInfo{ID: id, Addrs: dhtAddrs(addresses)})
	}
	return out
}

// rememberPeers notes the DHT peers connected now.
func (r *Router) rememberPeers() {
	var seen []acquaintance
	for _, p := range r.dht.RoutingTable().ListPeers() {
		node, ok := nodeOf(p)
		if !ok || len(seen) == maxAcquaintances || len(r.host.Network().ConnsToPeer(p)) == 0 {
			continue
		}
		var addresses []netip.AddrPort
		for _, m := range r.host.Peerstore().Addrs(p) {
			if a, ok := salAddr(m); ok {
				addresses = append(addresses, a)
			}
		}
		a := acquaintance{Node: node}
		slices.SortFunc(addresses, netip.AddrPort.Compare)
		for _, address := range r.reach.filter(addresses, MaxAddresses) {
			a.Addresses = append(a.Addresses, record.Locator{AddrPort: address})
		}
		if len(a.Addresses) > 0 {
			seen = append(seen, a)
		}
	}
	slices.SortFunc(seen, func(a, b acquaintance) int { return a.Node.Compare(b.Node) })
	r.recent.add(seen)
}

// savePeers writes them down.
func (r *Router) savePeers() {
	if err := r.recent.save(); err != nil {
		r.log.Warn("save recent peers", "err", err)
	}
}
