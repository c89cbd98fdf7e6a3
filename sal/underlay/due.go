package underlay

import "container/heap"

func (e *engine) schedule(a *Association, due int64) {
	switch {
	case due == 0:
		e.unschedule(a)
	case a.heapAt == 0:
		a.due = due
		heap.Push(&e.due, a)
	case a.due != due:
		a.due = due
		heap.Fix(&e.due, a.heapAt-1)
	}
}

func (e *engine) unschedule(a *Association) {
	if a.heapAt != 0 {
		heap.Remove(&e.due, a.heapAt-1)
	}
}

// dueHeap orders associations by their timers.
type dueHeap []*Association

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	a := x.(*Association)
	*h = append(*h, a)
	a.heapAt = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.heapAt = 0
	return a
}
