package routing

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// maxCopies bounds the nodes asked for their copies of one record.
const maxCopies = 2 * replicas

// NameCopy is what one node serves under a name.
type NameCopy struct {
	Node   identity.NodeID
	Record name.Record
	// Err says why it must not be believed: forged, expired, or of another name.
	Err error
}

// NameCopies asks each node that should have a name's record for its own copy, in
// order of node IDs; those without one, and those that do not answer, are left out.
// What this node itself remembers is among them.
// A lookup takes the newest valid record and passes over all others: this tells who
// serves them.
func (r *Router) NameCopies(ctx context.Context, n name.Name) ([]NameCopy, error) {
	if r.life.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	key := nameKey(n)
	peers := slices.Clone(r.holders(key))
	closest, _ := r.dht.GetClosestPeers(ctx, key) // what was found before an error is as good as the rest
	for _, p := range closest {
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	peers = slices.DeleteFunc(peers, func(p peer.ID) bool { return p == r.host.ID() })
	var mu sync.Mutex
	var out []NameCopy
	if e, ok := r.known(key); ok {
		if rec, ok := e.opened.decoded.(name.Record); ok {
			out = append(out, NameCopy{Node: r.self, Record: rec, Err: r.validator.inTime(e.opened)})
		}
	}
	var wg sync.WaitGroup
	for _, p := range peers[:min(len(peers), maxCopies)] {
		node, ok := nodeOf(p)
		if !ok {
			continue
		}
		wg.Go(func() {
			rec, _, err := r.messenger.GetValue(ctx, p, key)
			if err != nil || rec == nil {
				return
			}
			o, err := r.validator.open(key, rec.GetValue())
			c := NameCopy{Node: node, Err: err}
			c.Record, _ = o.decoded.(name.Record)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, c)
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b NameCopy) int { return cmp.Compare(string(a.Node[:]), string(b.Node[:])) })
	return out, nil
}
