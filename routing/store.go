package routing

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"google.golang.org/protobuf/proto"
)

// errFull is returned to a peer whose record is farther from this node than all
// that are held, when there is no room.
var errFull = errors.New("routing: store full")

// store holds the records of others, as kad-dht's datastore: in memory, bounded in
// bytes, and rid of what expired. Keys cost an attacker nothing, so when it is full
// the records farthest from this node in the DHT's metric go first; to push out
// those this node is responsible for takes keys mined close to it.
//
// Only the DHT's value store uses it. It is safe for concurrent use.
type store struct {
	self  [sha256.Size]byte // this node's place in the key space
	limit int
	open  func(key string, value []byte) (opened, error)
	heard func(key string, value []byte) // called for what is stored

	mu      sync.Mutex // guards below
	records map[ds.Key]*stored
	far     farthest
	bytes   int
	evicted uint64
	expired uint64
}

// stored is one record.
type stored struct {
	key      ds.Key
	data     []byte // recpb.Record as kad-dht wrote it
	value    []byte
	opened   opened
	distance uint64 // the first bytes of the XOR distance
	index    int    // in the heap
}

// overhead is what a record costs beside its bytes.
const overhead = 256

func newStore(self string, limit int, open func(string, []byte) (opened, error), heard func(string, []byte)) *store {
	return &store{
		self: sha256.Sum256([]byte(self)), limit: limit, open: open, heard: heard, records: map[ds.Key]*stored{},
	}
}

// Put implements ds.Write. A record older than the one held changes nothing: the
// value store checks that too, but not atomically with writers beside it.
func (s *store) Put(_ context.Context, key ds.Key, data []byte) error {
	var rec recpb.Record
	if err := proto.Unmarshal(data, &rec); err != nil {
		return err
	}
	o, err := s.open(string(rec.GetKey()), rec.GetValue())
	if err != nil {
		return err
	}
	place := sha256.Sum256(rec.GetKey())
	item := &stored{
		key: key, data: data, value: rec.GetValue(), opened: o,
		distance: binary.BigEndian.Uint64(place[:8]) ^ binary.BigEndian.Uint64(s.self[:8]),
	}
	stored, err := s.add(item)
	if stored {
		s.heard(string(rec.GetKey()), item.value)
	}
	return err
}

// add takes a record in, unless it is older than the one held.
func (s *store) add(item *stored) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.records[item.key]; old != nil {
		if compare(old.opened, old.value, item.opened, item.value) > 0 {
			return false, nil
		}
		s.removeLocked(old)
	}
	s.records[item.key] = item
	heap.Push(&s.far, item)
	s.bytes += item.size()
	for s.bytes > s.limit {
		victim := s.far[0]
		s.removeLocked(victim)
		if victim == item {
			return false, errFull
		}
		s.evicted++
	}
	return true, nil
}

// Get implements ds.Read.
func (s *store) Get(_ context.Context, key ds.Key) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.records[key]; item != nil {
		return item.data, nil
	}
	return nil, ds.ErrNotFound
}

// Has implements ds.Read.
func (s *store) Has(ctx context.Context, key ds.Key) (bool, error) {
	return ds.GetBackedHas(ctx, s, key)
}

// GetSize implements ds.Read.
func (s *store) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, s, key)
}

// Delete implements ds.Write.
func (s *store) Delete(_ context.Context, key ds.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.records[key]; item != nil {
		s.removeLocked(item)
	}
	return nil
}

// Query implements ds.Read.
func (s *store) Query(_ context.Context, q query.Query) (query.Results, error) {
	s.mu.Lock()
	entries := make([]query.Entry, 0, len(s.records))
	for key, item := range s.records {
		entries = append(entries, query.Entry{Key: key.String(), Value: item.data, Size: len(item.data)})
	}
	s.mu.Unlock()
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, entries)), nil
}

// Batch implements ds.BatchingFeature.
func (s *store) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }

// Sync implements ds.Datastore: nothing is on disk.
func (s *store) Sync(context.Context, ds.Key) error { return nil }

// Close implements ds.Datastore.
func (s *store) Close() error { return nil }

// sweep drops what is expired.
func (s *store) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range s.records {
		if e := item.opened.expires; !e.IsZero() && now.After(e) {
			s.removeLocked(item)
			s.expired++
		}
	}
}

// recheck drops what is no longer valid, as when the authorities changed.
func (s *store) recheck() {
	s.mu.Lock()
	items := make([]*stored, 0, len(s.records))
	for _, item := range s.records {
		items = append(items, item)
	}
	s.mu.Unlock()
	for _, item := range items {
		var rec recpb.Record
		if err := proto.Unmarshal(item.data, &rec); err == nil {
			if _, err = s.open(string(rec.GetKey()), rec.GetValue()); err == nil {
				continue
			}
		}
		s.mu.Lock()
		if s.records[item.key] == item {
			s.removeLocked(item)
		}
		s.mu.Unlock()
	}
}

func (s *store) counts() (records, bytes int, evicted, expired uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records), s.bytes, s.evicted, s.expired
}

func (s *store) removeLocked(item *stored) {
	delete(s.records, item.key)
	heap.Remove(&s.far, item.index)
	s.bytes -= item.size()
}

func (i *stored) size() int { return len(i.data) + overhead }

// farthest is a heap with the record farthest from this node on top.
type farthest []*stored

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].distance > f[j].distance }
func (f farthest) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].index, f[j].index = i, j
}

// Push implements heap.Interface.
func (f *farthest) Push(x any) {
	item := x.(*stored)
	item.index = len(*f)
	*f = append(*f, item)
}

// Pop implements heap.Interface.
func (f *farthest) Pop() any {
	old := *f
	item := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return item
}

var _ ds.Batching = (*store)(nil)
