package record

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// ServiceValidity is how long a ServiceRecord is valid after it was signed.
const ServiceValidity = 30 * 24 * time.Hour

// ServiceRecord says which nodes may provide a service and on which ports. The
// service's key signs it; being granted here is the whole delegation.
//
// Rules for adding a field: as for NodeRecord.
type ServiceRecord struct {
	Service  identity.ServiceID `cbor:"1,keyasint"`
	Sequence uint64             `cbor:"2,keyasint"`
	// NotAfter is the last second the record is valid, in Unix seconds. An
	// expired grant is never used.
	NotAfter int64 `cbor:"3,keyasint"`
	// Grants are the providers, in ascending order of node ID. At most MaxGrants.
	Grants []Grant `cbor:"4,keyasint"`
	// Tombstones are revoked grants, in ascending order of node ID, so that a
	// merge does not bring them back. At most MaxTombstones.
	Tombstones []Tombstone `cbor:"5,keyasint,omitempty"`
	// Ports are what the service listens on, in ascending order. At most MaxPorts.
	Ports []Port `cbor:"6,keyasint,omitempty"`
}

// Grant allows one node to provide the service.
type Grant struct {
	Node identity.NodeID `cbor:"1,keyasint"`
	// Since is the record sequence at which the grant was last made or changed.
	Since uint64 `cbor:"2,keyasint"`
	// Priority orders providers: the lowest reachable is used (RFC 2782).
	Priority uint16 `cbor:"3,keyasint"`
	// Weight divides sessions among providers of one priority (RFC 2782).
	Weight uint16 `cbor:"4,keyasint"`
}

// Tombstone remembers that a grant was revoked.
type Tombstone struct {
	Node identity.NodeID `cbor:"1,keyasint"`
	// Since is the record sequence at which the grant was revoked.
	Since uint64 `cbor:"2,keyasint"`
}

// Protocol is a transport protocol by its IP protocol number.
type Protocol uint8

// The protocols a service can speak.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String returns "tcp" or "udp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Protocol) UnmarshalText(b []byte) error {
	switch string(b) {
	case "tcp":
		*p = TCP
	case "udp":
		*p = UDP
	default:
		return fmt.Errorf("%w: protocol %q, want tcp or udp", ErrInvalid, b)
	}
	return nil
}

// Port is one port of a service.
type Port struct {
	Number   uint16   `cbor:"1,keyasint" json:"number"`
	Protocol Protocol `cbor:"2,keyasint" json:"protocol"`
}

const serviceType = "service"

// Seal signs the record, its lists brought into order. The key must be the
// service's own. Of the tombstones it keeps the newest that fit MaxSize, so that
// a service with MaxGrants providers can still be written.
func (r ServiceRecord) Seal(key identity.PrivateKey) ([]byte, error) {
	if key.Service() != r.Service {
		return nil, ErrKey
	}
	r.sort()
	if err := r.validate(); err != nil {
		return nil, err
	}
	for {
		b, err := seal(key, serviceType, r)
		if !errors.Is(err, ErrLimit) || len(r.Tombstones) == 0 {
			return b, err
		}
		r.keepTombstones(len(r.Tombstones) - 1)
	}
}

// OpenService verifies an encoded ServiceRecord of the service named. With an
// expired record it returns ErrExpired and the record, for its owner to renew.
func OpenService(service identity.ServiceID, b []byte, now time.Time) (ServiceRecord, error) {
	var r ServiceRecord
	if err := open(serviceType, service, b, &r); err != nil {
		return ServiceRecord{}, err
	}
	if r.Service != service {
		return ServiceRecord{}, ErrKey
	}
	if err := r.validate(); err != nil {
		return ServiceRecord{}, err
	}
	if expired(r.NotAfter, now) {
		return r, ErrExpired
	}
	return r, nil
}

// Granted returns the grant of node, if it has one.
func (r ServiceRecord) Granted(node identity.NodeID) (Grant, bool) {
	i, ok := slices.BinarySearchFunc(r.Grants, node, func(g Grant, n identity.NodeID) int { return g.Node.Compare(n) })
	if !ok {
		return Grant{}, false
	}
	return r.Grants[i], true
}

// Grant returns the record with g.Node granted (or changed) at sequence, which
// becomes the record's own.
func (r ServiceRecord) Grant(g Grant, sequence uint64) ServiceRecord {
	g.Since = sequence
	r.Sequence = sequence
	r.Grants = append(without(r.Grants, g.Node, Grant.node), g)
	r.Tombstones = without(r.Tombstones, g.Node, Tombstone.node)
	r.sort()
	return r
}

// Revoke returns the record with node's grant replaced by a tombstone.
func (r ServiceRecord) Revoke(node identity.NodeID, sequence uint64) ServiceRecord {
	r.Sequence = sequence
	r.Grants = without(r.Grants, node, Grant.node)
	r.Tombstones = append(without(r.Tombstones, node, Tombstone.node), Tombstone{Node: node, Since: sequence})
	r.sort()
	return r
}

// Merge joins two records of one service that were written apart: for every node
// the later of grant and tombstone holds. Ports come from the newer record. Of
// more than MaxGrants grants the latest made are kept, since neither writer could
// know. The result is unsigned and has the higher sequence of the two; its writer
// raises it. The order of the arguments does not matter, nor, for the fates of
// nodes within the limits, the order in which several records are merged.
func Merge(a, b ServiceRecord) ServiceRecord {
	if cmp.Or(cmp.Compare(a.Sequence, b.Sequence), bytes.Compare(mustMarshal(a), mustMarshal(b))) < 0 {
		a, b = b, a
	}
	out := a
	out.NotAfter = max(a.NotAfter, b.NotAfter)
	type fate struct {
		since   uint64
		grant   Grant
		granted bool
	}
	fates := map[identity.NodeID]fate{}
	for _, r := range []ServiceRecord{a, b} {
		for _, g := range r.Grants {
			if f, ok := fates[g.Node]; !ok || g.Since > f.since || f.granted && compareGrant(g, f.grant) > 0 {
				fates[g.Node] = fate{g.Since, g, true}
			}
		}
		for _, t := range r.Tombstones {
			// Of a grant and a revocation made apart at one number, the revocation holds.
			if f, ok := fates[t.Node]; !ok || t.Since >= f.since {
				fates[t.Node] = fate{since: t.Since}
			}
		}
	}
	out.Grants, out.Tombstones = nil, nil
	for node, f := range fates {
		if f.granted {
			out.Grants = append(out.Grants, f.grant)
		} else {
			out.Tombstones = append(out.Tombstones, Tombstone{Node: node, Since: f.since})
		}
	}
	if len(out.Grants) > MaxGrants {
		slices.SortFunc(out.Grants, func(a, b Grant) int { return compareGrant(b, a) })
		out.Grants = out.Grants[:MaxGrants]
	}
	out.sort()
	return out
}

// compareGrant orders grants by when they were made; the rest only makes the
// order the same for everybody.
func compareGrant(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Priority, b.Priority),
		cmp.Compare(a.Weight, b.Weight), a.Node.Compare(b.Node))
}

func (g Grant) node() identity.NodeID     { return g.Node }
func (t Tombstone) node() identity.NodeID { return t.Node }

// without returns a fresh slice, so that records stay values.
func without[T any](list []T, node identity.NodeID, of func(T) identity.NodeID) []T {
	return slices.DeleteFunc(slices.Clone(list), func(t T) bool { return of(t) == node })
}

// sort brings the lists into their one order, in slices of its own, and forgets
// the oldest tombstones beyond MaxTombstones.
func (r *ServiceRecord) sort() {
	r.Grants, r.Ports = slices.Clone(r.Grants), slices.Clone(r.Ports)
	slices.SortFunc(r.Grants, func(a, b Grant) int { return a.Node.Compare(b.Node) })
	slices.SortFunc(r.Ports, comparePort)
	r.keepTombstones(MaxTombstones)
}

// keepTombstones keeps the n newest tombstones, in order of node.
func (r *ServiceRecord) keepTombstones(n int) {
	r.Tombstones = slices.Clone(r.Tombstones)
	if len(r.Tombstones) > n {
		slices.SortFunc(r.Tombstones, func(a, b Tombstone) int {
			return cmp.Or(cmp.Compare(b.Since, a.Since), a.Node.Compare(b.Node))
		})
		r.Tombstones = r.Tombstones[:n]
	}
	slices.SortFunc(r.Tombstones, func(a, b Tombstone) int { return a.Node.Compare(b.Node) })
}

func comparePort(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
}

func (r ServiceRecord) validate() error {
	switch {
	case len(r.Grants) > MaxGrants:
		return fmt.Errorf("%w: %d providers, at most %d", ErrLimit, len(r.Grants), MaxGrants)
	case len(r.Tombstones) > MaxTombstones:
		return fmt.Errorf("%w: %d tombstones, at most %d", ErrLimit, len(r.Tombstones), MaxTombstones)
	case len(r.Ports) > MaxPorts:
		return fmt.Errorf("%w: %d ports, at most %d", ErrLimit, len(r.Ports), MaxPorts)
	case r.NotAfter < 0:
		return fmt.Errorf("%w: negative time", ErrInvalid)
	case !ascending(r.Grants, func(a, b Grant) int { return a.Node.Compare(b.Node) }),
		!ascending(r.Tombstones, func(a, b Tombstone) int { return a.Node.Compare(b.Node) }),
		!ascending(r.Ports, comparePort):
		return fmt.Errorf("%w: list not in ascending order", ErrInvalid)
	}
	for _, g := range r.Grants {
		if g.Since > r.Sequence {
			return fmt.Errorf("%w: grant newer than its record", ErrInvalid)
		}
	}
	for _, t := range r.Tombstones {
		if _, granted := r.Granted(t.Node); granted || t.Since > r.Sequence {
			return fmt.Errorf("%w: tombstone of a granted node, or newer than its record", ErrInvalid)
		}
	}
	for _, p := range r.Ports {
		if p.Number == 0 || (p.Protocol != TCP && p.Protocol != UDP) {
			return fmt.Errorf("%w: port %d/%s", ErrInvalid, p.Number, p.Protocol)
		}
	}
	return nil
}

func ascending[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

func mustMarshal(r ServiceRecord) []byte {
	b, err := identity.Marshal(r)
	if err != nil {
		panic(err) // plain values always encode
	}
	return b
}
