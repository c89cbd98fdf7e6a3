package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// InspectConfig says how this node inspects providers, where it is told to.
type InspectConfig struct {
	// Parallel is how many visits are under way at once at most. Default 16, 1 to 256.
	Parallel int
	// Retention is how long is kept what was measured. Default 90 d, at least 1 h.
	Retention time.Duration
	// Port is asked for at services of which is not known what they offer. Default 80.
	Port uint16
}

// Validate reports every fault.
func (c InspectConfig) Validate() error {
	return errors.Join(c.inspector().Validate(), c.store().Validate())
}

func (c InspectConfig) inspector() proofofservice.Config {
	return proofofservice.Config{Parallel: c.Parallel}
}

func (c InspectConfig) store() proofofservice.StoreConfig {
	return proofofservice.StoreConfig{Retention: c.Retention}
}

const (
	// visitPatience bounds a visit made by hand.
	visitPatience = time.Minute
	// handEpoch is the length of an epoch in ms that the outcome of such a visit is
	// judged by: as long as the longest visit.
	handEpoch = 10 * 60 * 1000
	// watchMemory is how far back is looked when the daemon starts.
	watchMemory = 7 * 24 * time.Hour
)

// inspection is what this node has to inspect providers with.
type inspection struct {
	n       *Node
	shopper *proofofservice.Shopper
	catalog *contents
	wake    chan struct{} // cap 1: whether to inspect may have changed

	mu      sync.Mutex // guards below
	closed  bool
	store   *proofofservice.Store // nil until something is measured or looked at
	watch   *proofofservice.Watch
	counted proofofservice.Metrics    // of visits by hand, and of inspectors stopped
	running *proofofservice.Inspector // nil while there is none
}

func (n *Node) openInspection() error {
	c := &contents{n: n, port: n.cfg.Inspect.Port, entries: make(map[identity.ServiceID]*publishedContent)}
	if c.port == 0 {
		c.port = 80
	}
	shopper, err := proofofservice.NewShopper(visits{n}, c, visits{n}, proofofservice.ShopperConfig{Port: c.port})
	if err != nil {
		return err
	}
	n.inspection = &inspection{n: n, shopper: shopper, catalog: c, wake: make(chan struct{}, 1)}
	return nil
}

// open opens the store at its first use: most nodes never inspect anything.
func (i *inspection) open() (*proofofservice.Store, *proofofservice.Watch, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return nil, nil, proofofservice.ErrClosed
	case i.store != nil:
		return i.store, i.watch, nil
	}
	cfg := i.n.cfg.Inspect.store()
	cfg.Logger = i.n.log.With("layer", "proofofservice")
	store, err := proofofservice.OpenStore(filepath.Join(i.n.dir.StateDir(), "inspect"), cfg)
	if err != nil {
		return nil, nil, err
	}
	watch := proofofservice.NewWatch()
	now := i.n.Now()
	if err := errors.Join(store.Trim(now), remember(store, watch, now.Add(-watchMemory))); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	i.store, i.watch = store, watch
	return store, watch, nil
}

// remember shows a watch what was measured before.
func remember(store *proofofservice.Store, watch *proofofservice.Watch, since time.Time) error {
	for p, err := range store.All() {
		if err != nil {
			return err
		}
		if p.At.After(since) {
			watch.Add(p)
		}
	}
	return nil
}

// close closes the store; nothing is measured any more.
func (i *inspection) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.store == nil {
		return nil
	}
	return i.store.Close()
}

// VisitRequest is a visit to be made by hand.
type VisitRequest struct {
	// Service is given by name or ID; Node is which of its providers to visit, the zero
	// one is the best that answers.
	Service string
	Node    identity.NodeID
	Kind    evidence.Kind
	// Size is how many bytes a throughput visit transfers. Default 256 KiB.
	Size uint32
	// Mobile says that the provider may move during the visit.
	Mobile bool
}

// VisitResult is what came of a visit.
type VisitResult struct {
	Resolution
	Node    identity.NodeID
	At      time.Time
	Took    time.Duration
	Outcome evidence.Outcome
	// Receipt is the provider's, nil if it gave none.
	Receipt *voucher.Receipt
	// Content says that what the service publishes was asked for.
	Content bool
	// Anomalous says that it is far from the provider's own history.
	Anomalous bool
}

// Visit visits a provider now, as an inspector does but for its plan, and keeps what it
// measured.
func (n *Node) Visit(ctx context.Context, q VisitRequest) (VisitResult, error) {
	out := VisitResult{At: n.Now()}
	var err error
	if q.Size == 0 {
		q.Size = 256 << 10
	}
	if q.Kind >= evidence.Kinds || q.Size > 64<<20 {
		return out, fmt.Errorf("%w: a visit of kind %d and %d bytes", ErrRequest, q.Kind, q.Size)
	}
	if out.Resolution, err = n.Resolve(ctx, q.Service); err != nil {
		return out, err
	}
	if out.Node = q.Node; q.Node.IsZero() {
		if _, out.Node, err = n.sal.Ping(ctx, out.Service); err != nil {
			return out, err
		}
	}
	if out.Node == n.ID() {
		return out, fmt.Errorf("%w: this node provides the service itself: name another provider", ErrRequest)
	}
	store, watch, err := n.inspection.open()
	if err != nil {
		return out, err
	}
	v := proofofservice.Visit{Provider: evidence.Provider{Service: out.Service, Node: out.Node, Kinds: evidence.AllKinds}}
	if q.Mobile {
		v.Provider.Class = evidence.Mobile
	}
	var leaf [8]byte
	for _, b := range [][]byte{v.Nonce[:], v.Second[:], leaf[:]} {
		_, _ = rand.Read(b) // never fails
	}
	v.Planned = evidence.Row{Kind: q.Kind, Leaf: binary.BigEndian.Uint64(leaf[:])}
	if q.Kind == evidence.Throughput {
		v.Planned.Size = q.Size
	}
	ctx, cancel := context.WithTimeout(ctx, visitPatience)
	defer cancel()
	v.Until = time.Now().Add(visitPatience)
	_, out.Content, _ = n.inspection.catalog.Content(ctx, out.Service)
	if !out.Content && (q.Kind == evidence.Throughput || q.Kind == evidence.Mobility || q.Kind == evidence.Correctness) {
		return out, fmt.Errorf("%w: nothing is published of this service that a %s visit could ask for (see \"scn inspect publish --help\")", ErrNotFound, q.Kind)
	}
	seen := n.inspection.shopper.Visit(ctx, v)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	out.Took, out.Receipt = seen.End.Sub(seen.Start), seen.Receipt
	out.Outcome = seen.Outcome(v.Planned, handEpoch)
	p := proofofservice.Point{Service: out.Service, Node: out.Node, At: n.Now(), Kind: q.Kind, Outcome: out.Outcome}
	if err := store.Add(p); err != nil {
		return out, err
	}
	out.Anomalous = watch.Add(p)
	n.inspection.count(out)
	return out, nil
}

func (i *inspection) count(v VisitResult) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := &i.counted
	c.Visits++
	switch {
	case v.Outcome.Verdict == evidence.Pass:
		c.Passed++
	case v.Outcome.Verdict.Failed():
		c.Failed++
	default:
		c.Void++
	}
	if v.Anomalous {
		c.Anomalies++
	}
}

// Measured is what this node itself measured of providers lately.
func (n *Node) Measured() ([]proofofservice.Summary, error) {
	_, watch, err := n.inspection.open()
	if err != nil {
		return nil, err
	}
	return watch.Summaries(), nil
}

// InspectMetrics counts the visits.
func (n *Node) InspectMetrics() proofofservice.Metrics {
	i := n.inspection
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running != nil {
		return sum(i.counted, i.running.Metrics())
	}
	return i.counted
}
