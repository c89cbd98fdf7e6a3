package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// Limits of a roster.
const (
	MaxProviders  = 1 << 20
	MaxInspectors = 1 << 16
)

// ErrRoster is returned for providers that are not sorted, not distinct, or too
// many.
var ErrRoster = errors.New("evidence: bad roster")

// Provider is one node providing one service, as frozen for an epoch.
//
//	service 32 ‖ node 32 ‖ class u8 ‖ kinds u8 ‖ rate u32 ‖ revenue u64
type Provider struct {
	Service identity.ServiceID
	Node    identity.NodeID
	Class   Class
	// Kinds are the probes that apply, by the service's record.
	Kinds KindSet
	// Rate in KiB/s is what the provider advertises; 0 if it advertises nothing.
	Rate uint32
	// Revenue is what was settled to it lately, in micro-credits.
	Revenue uint64
}

// ProviderSize is the length of a provider's encoding.
const ProviderSize = 78

// Compare orders providers by service, then by node.
func (p Provider) Compare(q Provider) int {
	if c := bytes.Compare(p.Service[:], q.Service[:]); c != 0 {
		return c
	}
	return p.Node.Compare(q.Node)
}

// Append appends the encoding.
func (p Provider) Append(b []byte) []byte {
	b = append(b, p.Service[:]...)
	b = append(b, p.Node[:]...)
	b = append(b, byte(p.Class), byte(p.Kinds))
	b = binary.BigEndian.AppendUint32(b, p.Rate)
	return binary.BigEndian.AppendUint64(b, p.Revenue)
}

// ParseProvider reads an encoding of ProviderSize bytes.
func ParseProvider(b []byte) (Provider, error) {
	f := &fields{rest: b}
	p := Provider{
		Service: f.hash(), Node: f.hash(), Class: Class(f.byte()), Kinds: KindSet(f.byte()),
		Rate: f.uint32(), Revenue: f.uint64(),
	}
	f.require(p.Class < classes, "class %d", p.Class)
	f.require(p.Kinds&^AllKinds == 0, "kinds %#x", byte(p.Kinds))
	return p, f.end("provider")
}

// Roster is who is visited in an epoch, with what all its plans are made from
// worked out once. It is made by NewRoster and read only.
type Roster struct {
	rules      Rules
	providers  []Provider
	inspectors int

	weights []uint64 // running sums
	visits  int      // how often each inspector visits each provider; 0 if it draws
	rows    int      // in a plan
	sizes   []uint64 // running sums
	kinds   map[KindSet][]uint64
	load    []uint64 // expected bytes per hour, of each provider
}

// NewRoster returns the roster of providers, in ascending order, for a number of
// inspectors. rules have their defaults set and are valid. The roster keeps
// providers.
func NewRoster(rules Rules, inspectors int, providers []Provider) (*Roster, error) {
	if len(providers) > MaxProviders || inspectors < 0 || inspectors > MaxInspectors {
		return nil, fmt.Errorf("%w: %d providers and %d inspectors", ErrRoster, len(providers), inspectors)
	}
	for i := 1; i < len(providers); i++ {
		if providers[i-1].Compare(providers[i]) >= 0 {
			return nil, fmt.Errorf("%w: entry %d is not above the one before", ErrRoster, i)
		}
	}
	r := &Roster{
		rules: rules, providers: providers, inspectors: inspectors,
		weights: make([]uint64, len(providers)), sizes: sums(rules.SizeWeights[:]),
		kinds: make(map[KindSet][]uint64),
	}
	var roots uint64
	for i, p := range providers {
		r.weights[i] = isqrt(p.Revenue)
		roots += r.weights[i]
		set := p.Kinds | KindsOf(Reach)
		if r.kinds[set] == nil {
			mix := rules.Mix
			for k := range Kind(Kinds) {
				if !set.Has(k) {
					mix[k] = 0
				}
			}
			r.kinds[set] = sums(mix[:])
		}
	}
	// The floor is such a weight that all floors together are their share of the sum.
	floor := uint64(1)
	switch n := uint64(len(providers)); {
	case rules.Floor >= million:
		clear(r.weights)
	case n > 0:
		floor = max(mulDiv(roots/n, uint64(rules.Floor), uint64(million-rules.Floor)), 1)
	}
	var sum uint64
	for i, w := range r.weights {
		sum += w + floor
		r.weights[i] = sum
	}
	r.rows = min(int(rules.Rows), MaxRows)
	if n := len(providers); n <= r.rows {
		r.rows = 0
		if n > 0 && inspectors > 0 {
			r.visits = min(max(ceil(int(rules.Checks), inspectors), 1), int(rules.Rows)/n)
			r.rows = n * r.visits
		}
	}
	r.load = make([]uint64, len(providers))
	for i := range r.load {
		r.load[i] = r.expectedBytes(i)
	}
	return r, nil
}

// Len returns the number of providers.
func (r *Roster) Len() int { return len(r.providers) }

// At returns provider number i.
func (r *Roster) At(i int) Provider { return r.providers[i] }

// Rules returns the rules the roster was made with.
func (r *Roster) Rules() Rules { return r.rules }

// Rows returns how many rows each plan has.
func (r *Roster) Rows() int { return r.rows }

// ID returns a hash over everything plans are made from, but the rules.
func (r *Roster) ID() Hash {
	h := sha256.New()
	b := append([]byte(nil), "scn/roster/v1"...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.inspectors))
	for _, p := range r.providers {
		h.Write(b)
		b = p.Append(b[:0])
	}
	h.Write(b)
	return Hash(h.Sum(nil))
}

// ExpectedRows returns how often all inspectors together visit provider i in an
// epoch, in expectation, in thousandths.
func (r *Roster) ExpectedRows(i int) uint64 {
	if r.visits > 0 || r.rows == 0 {
		return uint64(r.inspectors) * uint64(r.visits) * 1000
	}
	weight := r.weights[i]
	if i > 0 {
		weight -= r.weights[i-1]
	}
	return mulDiv(uint64(r.inspectors)*uint64(r.rows)*1000, weight, r.weights[len(r.weights)-1])
}

// ExpectedBytes returns how many bytes of planned transfers provider i bears in an
// hour, in expectation and before the limit.
func (r *Roster) ExpectedBytes(i int) uint64 { return r.load[i] }

func (r *Roster) expectedBytes(i int) uint64 {
	var mean, weight uint64
	for j, s := range r.rules.Sizes {
		mean += uint64(s) * uint64(r.rules.SizeWeights[j])
		weight += uint64(r.rules.SizeWeights[j])
	}
	mix := r.kinds[r.providers[i].Kinds|KindsOf(Reach)]
	sized := mix[Kinds-1] - mix[Latency] // all kinds behind Latency transfer
	perRow := mulDiv(mean/weight, sized, mix[Kinds-1])
	return mulDiv(mulDiv(perRow, r.ExpectedRows(i), 1000), 3_600_000, uint64(r.rules.Epoch))
}

func ceil(a, b int) int { return (a + b - 1) / b }
