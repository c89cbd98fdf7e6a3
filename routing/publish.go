package routing

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"scn.alt/scn/routing/identity"
)

// replicas is how many nodes hold a record: Kademlia's k.
const replicas = 20

// put stores a record here and at the nodes closest to its key, and counts who
// acknowledged it. The closest nodes already known get it at once, the others as
// they are found; a node that does not answer costs one request's time. It fails
// with ErrNoPeers or ErrNotStored.
func (r *Router) put(ctx context.Context, key string, value []byte) (Receipt, error) {
	return r.putAt(ctx, key, value, r.cfg.Delegate != nil)
}

// putAt is put; with delegated set, a node that finds nobody has the delegate do it.
func (r *Router) putAt(ctx context.Context, key string, value []byte, delegated bool) (Receipt, error) {
	if err := r.validator.Validate(key, value); err != nil {
		return Receipt{}, err
	}
	rec := &recpb.Record{Key: []byte(key), Value: value}
	// A record newer than ours may be here already; the caller's check finds it.
	_ = r.values.Put(ctx, key, rec)
	r.learn(key, value)
	r.counters.puts.Add(1)

	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout+r.cfg.RequestTimeout)
	defer cancel()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		receipt Receipt
		asked   = map[peer.ID]bool{r.host.ID(): true}
	)
	send := func(peers []peer.ID) {
		for _, p := range peers {
			if asked[p] {
				continue
			}
			asked[p] = true
			wg.Go(func() {
				ok := r.putTo(ctx, p, rec)
				mu.Lock()
				defer mu.Unlock()
				receipt.Tried++
				if ok {
					receipt.Stored++
				}
			})
		}
	}
	ask := func() {
		tried, stored := r.putByDelegate(ctx, key, value)
		mu.Lock()
		defer mu.Unlock()
		if tried {
			receipt.Tried++
		}
		if stored {
			receipt.Stored++
			if r.dht.RoutingTable().Size() == 0 {
				cancel() // the others are out of reach
			}
		}
	}
	if delegated && r.dht.RoutingTable().Size() == 0 {
		delegated = false
		wg.Go(ask)
	}
	send(r.holders(key))
	if len(asked) > 1 {
		// What was found before an error is as good as the rest.
		lookup, stop := context.WithTimeout(ctx, r.cfg.LookupTimeout)
		closest, _ := r.dht.GetClosestPeers(lookup, key)
		stop()
		send(closest)
	}
	wg.Wait()
	if delegated && receipt.Stored == 0 {
		ask()
	}
	switch {
	case receipt.Tried == 0:
		return receipt, ErrNoPeers
	case receipt.Stored == 0:
		return receipt, fmt.Errorf("%w: %d tried", ErrNotStored, receipt.Tried)
	}
	return receipt, nil
}

// holders are the peers first given a record: the closest to its key that are known.
// A node with few peers, as one that just moved may be, takes whomever it is in touch
// with, and the bootstrap nodes.
func (r *Router) holders(key string) []peer.ID {
	out := r.dht.RoutingTable().NearestPeers(kb.ConvertKey(key), replicas)
	if len(out) >= replicas {
		return out
	}
	for _, p := range r.nearby(key) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, b := range r.bootstrapPeers() {
		if len(out) >= replicas {
			break
		}
		if !slices.Contains(out, b.ID) {
			r.host.Peerstore().AddAddrs(b.ID, b.Addrs, peerstore.TempAddrTTL)
			out = append(out, b.ID)
		}
	}
	return out
}

// maxNearby bounds the peers asked directly.
const maxNearby = 8

// nearby are the connected DHT nodes closest to a key.
func (r *Router) nearby(key string) []peer.ID {
	servers := slices.DeleteFunc(slices.Clone(r.connected()), func(p peer.ID) bool { return !r.isServer(p) })
	servers = kb.SortClosestPeers(servers, kb.ConvertKey(key))
	return servers[:min(len(servers), maxNearby)]
}

// isServer reports whether a peer is known to answer the DHT's requests; clients
// do not.
func (r *Router) isServer(p peer.ID) bool {
	protocol, err := r.host.Peerstore().FirstSupportedProtocol(p, r.protocol)
	return err == nil && protocol != ""
}

// A put that failed at once is tried again: while this node moves, connections end
// under what is being sent.
const (
	putTries = 4
	putPause = 30 * time.Millisecond
)

// putTo stores a record at one peer, within one request's time.
func (r *Router) putTo(ctx context.Context, p peer.ID, rec *recpb.Record) bool {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.RequestTimeout)
	defer cancel()
	for try := range putTries {
		if try > 0 && !sleep(ctx, putPause<<(try-1)) {
			return false
		}
		err := r.messenger.PutValue(ctx, p, rec)
		if err == nil {
			r.counters.putAcks.Add(1)
			return true
		}
		r.counters.putFailures.Add(1)
		r.log.Debug("put failed", "key", string(rec.GetKey()), "peer", p, "err", err)
	}
	return false
}

// kept is a record that is put anew on schedule, because this node owns it or was
// asked to. Its fields are guarded by Router.mu.
type kept struct {
	key    string
	target target
	signer identity.PrivateKey // zero: kept as it is, for somebody else

	value     []byte // nil until there is one
	opened    opened
	made      time.Time // when value was made or taken over
	published time.Time
	receipt   Receipt

	due   time.Time
	step  int                // how often it was put since it changed
	fails int                // how often in a row nobody stored it
	turn  int                // counts its puts
	stop  context.CancelFunc // ends the put that is running, nil when none is
	again bool               // became due meanwhile
	index int                // in the schedule, -1 when not in it
}

// followUps are the pauses after a change: soon after one, somebody else may have
// changed the same record, and peers may still be coming back.
var followUps = []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}

// rest returns how long to wait before the record is put again.
func (k *kept) rest(interval, retry time.Duration) time.Duration {
	if k.fails > 0 {
		return jitter(min(retry<<min(k.fails-1, 10), time.Minute, interval))
	}
	if k.step <= len(followUps) && k.step > 0 {
		return jitter(min(followUps[k.step-1], interval))
	}
	return jitter(interval)
}
