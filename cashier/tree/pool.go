package tree

import "sync"

// A page is what a pool grows by: large enough that a million nodes are few
// pages, small enough that an empty tree costs little.
const (
	pageShift = 10
	pageSize  = 1 << pageShift
)

// pool holds nodes of one kind in pages that never move. Place 0 is not given out.
type pool[T any] struct {
	pages []*[pageSize]T
	used  uint32 // places ever given out; 0 counts as one
	free  []uint32
}

func (p *pool[T]) at(i uint32) *T { return &p.pages[i>>pageShift][i&(pageSize-1)] }

// take gives a place out. The lock is held while the list of pages grows, which
// readers walk.
func (p *pool[T]) take(mu *sync.RWMutex) uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	i := max(p.used, 1)
	if i >= maxNodes {
		panic("tree: too many nodes")
	}
	if int(i>>pageShift) == len(p.pages) {
		page := new([pageSize]T)
		mu.Lock()
		p.pages = append(p.pages, page)
		mu.Unlock()
	}
	p.used = i + 1
	return i
}
