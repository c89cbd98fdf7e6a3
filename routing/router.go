// Package routing is a stub being filled.
package routing

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// Errors of the Router, besides those of the records' Open functions.
var (
	// ErrNotFound is returned when a completed lookup found no valid record.
	ErrNotFound = errors.New("routing: not found")
	// ErrTimeout is returned when a lookup ended before the network answered. It
	// is not a statement about the record.
	ErrTimeout = errors.New("routing: no answer in time")
	// ErrNoPeers is returned when no DHT peer is known; what was published is kept
	// and put as soon as one is.
	ErrNoPeers = errors.New("routing: no peers")
	// ErrNotStored is returned when no peer acknowledged a record; it is kept and
	// tried again.
	ErrNotStored = errors.New("routing: record not stored by any peer")
	// ErrBusy is returned when too many lookups are running.
	ErrBusy = errors.New("routing: too many lookups")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("routing: closed")
)

// Router finds nodes and services in the DHT and publishes this node's records.
type Router struct{}

// Open binds the UDP port and starts the DHT.
func Open(cfg Config) (*Router, error) { return nil, ErrClosed }

// Run keeps the node in the network and its records in the DHT until ctx ends.
func (r *Router) Run(ctx context.Context) error { return nil }

// Close leaves the network. It is idempotent.
func (r *Router) Close() error { return nil }

// Observe tells the Router the node's addresses (SAL port), best first, whenever
// they change. It returns at once.
func (r *Router) Observe(addresses []netip.AddrPort) {}

// PublishNode is Observe, and waits until the new record is stored or ctx ends.
func (r *Router) PublishNode(ctx context.Context, addresses []netip.AddrPort) (Receipt, error) {
	return Receipt{}, ErrClosed
}

// UpdateService changes a service's record with the service's own key: it fetches
// the newest record, joins it with what is known here, applies change, raises the
// sequence and publishes. From then on the record is kept and merged.
func (r *Router) UpdateService(ctx context.Context, key identity.PrivateKey, change func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord) (record.ServiceRecord, Receipt, error) {
	return record.ServiceRecord{}, Receipt{}, ErrClosed
}

// PublishService keeps a signed ServiceRecord alive without its key, as a provider
// does. A newer one found replaces it.
func (r *Router) PublishService(ctx context.Context, service identity.ServiceID, raw []byte) (Receipt, error) {
	return Receipt{}, ErrClosed
}

// ForgetService ends the keeping of a service's record.
func (r *Router) ForgetService(service identity.ServiceID) {}

// LookupService returns the first valid record of a service, and its bytes.
func (r *Router) LookupService(ctx context.Context, service identity.ServiceID) (record.ServiceRecord, []byte, error) {
	return record.ServiceRecord{}, nil, ErrClosed
}

// PublishName keeps a name record alive.
func (r *Router) PublishName(ctx context.Context, n name.Name, raw []byte) (Receipt, error) {
	return Receipt{}, ErrClosed
}

// ForgetName ends the keeping of a name record.
func (r *Router) ForgetName(n name.Name) {}

// LookupName returns the first valid record of a name, and its bytes.
func (r *Router) LookupName(ctx context.Context, n name.Name) (name.Record, []byte, error) {
	return name.Record{}, nil, ErrClosed
}

// PublishNetwork adopts a newer network file and puts it into the DHT.
func (r *Router) PublishNetwork(ctx context.Context, f network.File) (Receipt, error) {
	return Receipt{}, ErrClosed
}

// LookupNetwork returns the newest network file found in the DHT.
func (r *Router) LookupNetwork(ctx context.Context) (network.File, error) {
	return network.File{}, ErrClosed
}

// Network returns the network file in force.
func (r *Router) Network() network.File { return network.File{} }

// Resolve yields the providers of a service, better answers as they come.
func (r *Router) Resolve(ctx context.Context, service identity.ServiceID) iter.Seq2[[]record.Candidate, error] {
	return func(yield func([]record.Candidate, error) bool) { yield(nil, ErrClosed) }
}

// ResolveNode yields where a node is: what is known, then what the DHT says now.
func (r *Router) ResolveNode(ctx context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error] {
	return func(yield func(record.Candidate, error) bool) { yield(record.Candidate{}, ErrClosed) }
}

// Status tells how the Router is doing.
func (r *Router) Status() Status { return Status{} }

// Metrics returns a snapshot.
func (r *Router) Metrics() Metrics { return Metrics{} }
