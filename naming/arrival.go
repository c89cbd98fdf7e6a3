package naming

import (
	"net"
	"slices"
	"sync"
	"time"
)

// verdictFor is how long it is believed that an interface index has the name it
// had: docker0 may come and go.
const verdictFor = 5 * time.Second

// arrivals decides by the interface a packet arrived on. A host answers on all its
// addresses through all its interfaces, so the address alone says nothing about
// where a query comes from.
type arrivals struct {
	any   bool
	names []string // with lo

	mu       sync.RWMutex // guards below
	verdicts map[int]verdict
}

type verdict struct {
	ok    bool
	until time.Time
}

func newArrivals(names []string, all bool) *arrivals {
	return &arrivals{any: all, names: append([]string{"lo"}, names...), verdicts: make(map[int]verdict)}
}

// allowed reports whether queries may arrive on the interface. Index 0, unknown,
// may not.
func (a *arrivals) allowed(index int) bool {
	if a.any {
		return true
	}
	if index <= 0 {
		return false
	}
	now := time.Now()
	a.mu.RLock()
	v, ok := a.verdicts[index]
	a.mu.RUnlock()
	if ok && now.Before(v.until) {
		return v.ok
	}
	i, err := net.InterfaceByIndex(index)
	v = verdict{ok: err == nil && slices.Contains(a.names, i.Name), until: now.Add(verdictFor)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.verdicts) > 1024 {
		clear(a.verdicts)
	}
	a.verdicts[index] = v
	return v.ok
}
