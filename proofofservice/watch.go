package proofofservice

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// window is how many measurements of each sort a Watch remembers of a provider.
const window = 100

// maxWatched is how many providers a Watch remembers: the ones seen last.
const maxWatched = 10_000

// Watch is what the inspector itself measured lately, in memory: for its operator to
// look at, and to flag what is out of the ordinary. It is safe for concurrent use.
type Watch struct {
	mu        sync.Mutex
	providers map[watched]*watching // guarded by mu
}

type watched struct {
	service identity.ServiceID
	node    identity.NodeID
}

type watching struct {
	summary               Summary
	latencies, rates, gap []uint32
	failures              []bool
}

// Summary is what is known of a provider.
type Summary struct {
	Service identity.ServiceID
	Node    identity.NodeID
	// Checks counted, Failed of the last ones.
	Checks, Recent, Failed int
	// Latency50 and Latency90 in µs, Rate in KiB/s, Gap in ms: medians of what is
	// remembered, and the 90th percentile.
	Latency50, Latency90, Rate, Gap uint32
	// Last is when it was visited last, and Verdict what came of it.
	Last    time.Time
	Verdict evidence.Verdict
	// Anomalies counts measurements that were out of the ordinary, of which Anomaly was
	// the last.
	Anomalies int
	Anomaly   time.Time
	// Latencies are those remembered, the oldest first, for a sparkline.
	Latencies []uint32
}

// NewWatch returns an empty watch.
func NewWatch() *Watch { return &Watch{providers: make(map[watched]*watching)} }

// Add takes a measurement in, and reports whether it is far from the provider's own
// history: by its median and MAD.
func (w *Watch) Add(p Point) (anomalous bool) {
	if p.Outcome.Verdict <= evidence.Void {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := watched{p.Service, p.Node}
	h := w.providers[key]
	if h == nil {
		if len(w.providers) >= maxWatched {
			w.forgetOldest()
		}
		h = &watching{summary: Summary{Service: p.Service, Node: p.Node}}
		w.providers[key] = h
	}
	o := p.Outcome
	h.summary.Checks++
	h.summary.Last, h.summary.Verdict = p.At, o.Verdict
	h.failures = push(h.failures, o.Verdict.Failed())
	if o.Verdict == evidence.Pass {
		anomalous = outlier(&h.latencies, o.Latency)
		if p.Kind == evidence.Throughput {
			anomalous = outlier(&h.rates, o.Rate) || anomalous
		}
		if p.Kind == evidence.Mobility {
			anomalous = outlier(&h.gap, o.Gap) || anomalous
		}
	}
	if anomalous {
		h.summary.Anomalies++
		h.summary.Anomaly = p.At
	}
	return anomalous
}

// outlier adds a value and reports whether those before make it an anomaly.
func outlier(list *[]uint32, v uint32) bool {
	far := evidence.Anomalous(*list, v)
	*list = push(*list, v)
	return far
}

func push[T any](list []T, v T) []T {
	if len(list) == window {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, v)
}

func (w *Watch) forgetOldest() {
	var oldest watched
	var at time.Time
	for k, h := range w.providers {
		if at.IsZero() || h.summary.Last.Before(at) {
			oldest, at = k, h.summary.Last
		}
	}
	delete(w.providers, oldest)
}

// Summaries returns what is known of every provider, by service and node.
func (w *Watch) Summaries() []Summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Summary, 0, len(w.providers))
	for _, h := range w.providers {
		s := h.summary
		s.Recent = len(h.failures)
		for _, failed := range h.failures {
			if failed {
				s.Failed++
			}
		}
		s.Latency50, s.Latency90 = evidence.Median(h.latencies), evidence.Quantile(h.latencies, 900_000)
		s.Rate, s.Gap = evidence.Median(h.rates), evidence.Median(h.gap)
		s.Latencies = slices.Clone(h.latencies)
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Summary) int {
		return cmp.Or(slices.Compare(a.Service[:], b.Service[:]), a.Node.Compare(b.Node))
	})
	return list
}
