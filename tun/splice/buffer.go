package splice

import (
	"sync"
	"sync/atomic"
)

// Sizes of buffers. Large is two whole segments of a device with an MTU of 65535.
const (
	Large = 128 << 10
	small = 4 << 10
)

// Buffers lends large buffers under one bound. Use NewBuffers.
type Buffers struct {
	limit int64
	used  atomic.Int64
	large sync.Pool
	small sync.Pool
}

// NewBuffers bounds the large buffers in use to limit bytes; beyond it, and with a
// limit of 0, small ones are used and everything goes on, slower.
func NewBuffers(limit int64) *Buffers {
	b := &Buffers{limit: limit}
	b.large.New = func() any { return new([Large]byte) }
	b.small.New = func() any { return new([small]byte) }
	return b
}

// InUse returns the bytes of large buffers now lent out.
func (b *Buffers) InUse() int64 { return b.used.Load() }

// get lends a large buffer when one is wanted and the bound allows.
func (b *Buffers) get(wantLarge bool) []byte {
	if wantLarge {
		if b.used.Add(Large) <= b.limit {
			return b.large.Get().(*[Large]byte)[:]
		}
		b.used.Add(-Large)
	}
	return b.small.Get().(*[small]byte)[:]
}

func (b *Buffers) put(buf []byte) {
	if cap(buf) == Large {
		b.large.Put((*[Large]byte)(buf[:Large]))
		b.used.Add(-Large)
		return
	}
	b.small.Put((*[small]byte)(buf[:small]))
}
