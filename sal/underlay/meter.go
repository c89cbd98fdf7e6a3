package underlay

import (
	"maps"
	"sync"
	"sync/atomic"
)

// linkMeter counts the UDP payload one interface carried.
type linkMeter struct{ sent, received atomic.Uint64 }

// linkMeters has a meter for each interface that carried something; index 0 stands
// for what the kernel chose the interface of. Reading takes no lock.
type linkMeters struct {
	byIndex atomic.Pointer[map[int]*linkMeter]
	mu      sync.Mutex // held while the map is replaced
}

// of returns an interface's meter, made on first use.
func (m *linkMeters) of(index int) *linkMeter {
	if all := m.byIndex.Load(); all != nil {
		if meter := (*all)[index]; meter != nil {
			return meter
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[int]*linkMeter)
	if old := m.byIndex.Load(); old != nil {
		if meter := (*old)[index]; meter != nil {
			return meter
		}
		maps.Copy(all, *old)
	}
	all[index] = new(linkMeter)
	m.byIndex.Store(&all)
	return all[index]
}

// keep forgets the meters of interfaces that are gone: a container host makes and
// removes thousands.
func (m *linkMeters) keep(exists func(index int) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.byIndex.Load()
	if old == nil {
		return
	}
	all := maps.Clone(*old)
	maps.DeleteFunc(all, func(index int, _ *linkMeter) bool { return index != 0 && !exists(index) })
	m.byIndex.Store(&all)
}
