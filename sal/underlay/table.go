package underlay

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/sal/path"
)

// table finds associations: by serial number (of a made-up address), by
// connection ID, by proved real address, and by the index of path messages.
type table struct {
	// pages hold the associations by serial number, so that sending takes no lock.
	pages [256]atomic.Pointer[page]
	// generation changes whenever an entry is removed or replaced; caches of the
	// receiver are valid for one generation.
	generation atomic.Uint64

	mu       sync.RWMutex // guards all below
	byCID    map[uint64]*Association
	byRemote map[netip.AddrPort][]*Association // oldest first
	byIndex  map[uint64]*Association
	pending  []*Association // handshakes of strangers, oldest first
	count    int            // serials in use
	serial   uint16         // last given out
}

type page [256]atomic.Pointer[Association]

const (
	// maxPending bounds handshakes of strangers that proved to receive at their
	// address and are not yet accepted.
	maxPending  = 1024
	pendingTime = 15 * time.Second
	// maxCIDs bounds the connection IDs learnt per association; quic-go issues 4
	// at a time and the oldest are retired first.
	maxCIDs = 16
	// maxProved bounds the proved addresses per association. The path machine bounds
	// them already, and says which it gives up: one given up here without its knowing
	// would not be proved again, be it the one in use. One more is the address a
	// stranger was met at.
	maxProved = path.MaxAddresses + 1
)

func newTable() *table {
	return &table{
		byCID:    make(map[uint64]*Association),
		byRemote: make(map[netip.AddrPort][]*Association),
		byIndex:  make(map[uint64]*Association),
	}
}

func (t *table) bySerial(serial uint16) *Association {
	p := t.pages[serial>>8].Load()
	if p == nil {
		return nil
	}
	return p[serial&0xff].Load()
}

// enter gives an association a serial number, 0 if none is free. Numbers are
// given out in turn, so that one just freed is not used again soon.
func (t *table) enter(a *Association, limit int) uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count >= limit {
		return 0
	}
	for range 1 << 16 {
		t.serial++
		if t.serial == 0 {
			continue
		}
		slot := &t.pages[t.serial>>8]
		p := slot.Load()
		if p == nil {
			p = new(page)
			slot.Store(p)
		}
		if p[t.serial&0xff].Load() == nil {
			// The address must be complete before others can find the association.
			a.serial = t.serial
			a.addr = madeUp(a.node, a.serial)
			if a.client {
				a.up.Store(a.addr)
			}
			p[t.serial&0xff].Store(a)
			t.count++
			return t.serial
		}
	}
	return 0
}

func (t *table) removeLocked(a *Association) {
	if a.serial != 0 {
		if p := t.pages[a.serial>>8].Load(); p != nil && p[a.serial&0xff].CompareAndSwap(a, nil) {
			t.count--
		}
	}
	for _, cid := range a.cids {
		if t.byCID[cid] == a {
			delete(t.byCID, cid)
		}
	}
	a.cids, a.guessed = nil, nil
	for _, remote := range a.proved {
		t.unlinkLocked(a, remote)
	}
	a.proved = nil
	if t.byIndex[a.index] == a {
		delete(t.byIndex, a.index)
	}
	t.generation.Add(1)
}

func (t *table) unlinkLocked(a *Association, remote netip.AddrPort) {
	rest := slices.DeleteFunc(t.byRemote[remote], func(o *Association) bool { return o == a })
	if len(rest) == 0 {
		delete(t.byRemote, remote)
	} else {
		t.byRemote[remote] = rest
	}
}

// learn notes that a connection ID belongs to a.
func (t *table) learn(cid uint64, a *Association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learnLocked(cid, a)
}

func (t *table) learnLocked(cid uint64, a *Association) {
	if a.gone || a.rests || t.byCID[cid] == a {
		return
	}
	if len(a.cids) >= maxCIDs {
		if t.byCID[a.cids[0]] == a {
			delete(t.byCID, a.cids[0])
		}
		a.cids = slices.Delete(a.cids, 0, 1)
		t.generation.Add(1)
	}
	t.byCID[cid] = a
	a.cids = append(a.cids, cid)
}

// prove notes that a remote address is the peer's.
func (t *table) prove(a *Association, remote netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proveLocked(a, remote)
}

func (t *table) proveLocked(a *Association, remote netip.AddrPort) {
	if a.gone || slices.Contains(a.proved, remote) {
		return
	}
	if len(a.proved) >= maxProved {
		t.unlinkLocked(a, a.proved[0])
		a.proved = slices.Delete(a.proved, 0, 1)
	}
	a.proved = append(a.proved, remote)
	t.byRemote[remote] = append(t.byRemote[remote], a)
}

// disprove undoes prove.
func (t *table) disprove(a *Association, remote netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(a.proved, remote); i >= 0 {
		a.proved = slices.Delete(a.proved, i, i+1)
		t.unlinkLocked(a, remote)
	}
}

func (t *table) isProved(a *Association, remote netip.AddrPort) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Contains(a.proved, remote)
}

// known reports whether a remote address is proved by anybody.
func (t *table) known(remote netip.AddrPort) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byRemote[remote]) > 0
}

func (t *table) cid(cid uint64) *Association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byCID[cid]
}

func (t *table) pathIndex(index uint64) *Association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byIndex[index]
}

// attribute decides whose a connection ID is that was made here but not seen
// before, by the address it came from. When several associations have that
// address (both nodes dialled at once, or the peer restarted), one that quic-go
// serves comes before one it dialled, since only a server looks at the address
// its packets come from, and then the newest one, since the others are dying.
func (t *table) attribute(cid uint64, remote netip.AddrPort) *Association {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.byCID[cid]; a != nil {
		return a
	}
	var found *Association
	for _, a := range t.byRemote[remote] {
		if a.rests {
			continue
		}
		if found == nil || !a.client || found.client {
			found = a
		}
	}
	if found != nil {
		t.learnLocked(cid, found)
		if found.client {
			found.guessed = append(found.guessed, cid)
			if len(found.guessed) > maxCIDs {
				found.guessed = slices.Delete(found.guessed, 0, 1)
			}
		}
	}
	return found
}

// meet notes a stranger that sent a handshake packet to a connection ID made
// here: so it receives at its address. It returns what stands for its connection.
func (t *table) meet(cid uint64, a *Association) *Association {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.byCID[cid]; known != nil {
		return known
	}
	if len(t.pending) >= maxPending {
		t.expireLocked(0)
	}
	t.pending = append(t.pending, a)
	t.learnLocked(cid, a)
	// What was taken for a dialled association's may have been this one's.
	for _, other := range t.byRemote[a.remote] {
		for _, guess := range other.guessed {
			if t.byCID[guess] == other {
				delete(t.byCID, guess)
			}
		}
		other.guessed = nil
	}
	t.generation.Add(1)
	t.proveLocked(a, a.remote)
	return a
}

// rest takes the connection IDs of an association out: no packet is to belong to it.
func (t *table) rest(a *Association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, cid := range a.cids {
		if t.byCID[cid] == a {
			delete(t.byCID, cid)
		}
	}
	a.cids, a.guessed, a.rests = nil, nil, true
	t.generation.Add(1)
}

// expire forgets strangers met before a time.
func (t *table) expire(before int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.pending) > 0 && t.pending[0].met < before {
		t.expireLocked(0)
	}
}

func (t *table) expireLocked(i int) {
	a := t.pending[i]
	t.pending = slices.Delete(t.pending, i, i+1)
	a.gone = true
	t.removeLocked(a)
}

// accept returns the newest stranger met at a remote address, which is then no
// longer one, or nil.
func (t *table) accept(remote netip.AddrPort) *Association {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.pending) - 1; i >= 0; i-- {
		if a := t.pending[i]; a.remote == remote {
			t.pending = slices.Delete(t.pending, i, i+1)
			return a
		}
	}
	return nil
}

func (t *table) index(a *Association, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !a.gone {
		a.index = index
		t.byIndex[index] = a
	}
}

// bury keeps the entries by which packets for a closed association are known,
// and ends learning for it.
func (t *table) bury(a *Association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byIndex[a.index] == a {
		delete(t.byIndex, a.index)
	}
}

// forget takes every entry of a buried association out.
func (t *table) forget(a *Association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.gone = true
	t.removeLocked(a)
}

// each calls f for every association with a serial number.
func (t *table) each(f func(*Association)) {
	for i := range t.pages {
		p := t.pages[i].Load()
		if p == nil {
			continue
		}
		for j := range p {
			if a := p[j].Load(); a != nil {
				f(a)
			}
		}
	}
}

func (t *table) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.count
}
