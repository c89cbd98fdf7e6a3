package routing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"google.golang.org/protobuf/proto"

	"scn.alt/scn/naming/name"
)

// stow puts a value as kad-dht would.
func stow(t *testing.T, s *store, key string, value []byte) error {
	t.Helper()
	data, err := proto.Marshal(&recpb.Record{Key: []byte(key), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	return s.Put(context.Background(), ds.NewKey(key), data)
}

func TestStoreIsBounded(t *testing.T) {
	b := newBench(t)
	s := newStore("self", 20_000, b.open, func(string, []byte) {})
	for i := range 200 {
		node := testKey("node", i)
		err := stow(t, s, nodeKey(node.Node()), sealNode(t, node, 1, testTime.Add(time.Minute)))
		if err != nil && !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	n, size, evicted, _ := s.counts()
	if size > 20_000 || n < 20 || n != len(s.far) || evicted == 0 {
		t.Errorf("%d records of %d bytes, %d evicted", n, size, evicted)
	}
	// What is left is what is closest.
	var far uint64
	for _, item := range s.records {
		far = max(far, item.distance)
	}
	if s.far[0].distance != far {
		t.Error("the farthest record is not on top")
	}
	results, err := s.Query(t.Context(), query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := results.Rest(); err != nil || len(entries) != n {
		t.Errorf("query: %d of %d, %v", len(entries), n, err)
	}
}

func TestStoreKeepsTheNewer(t *testing.T) {
	b := newBench(t)
	s := newStore("self", 1<<20, b.open, func(string, []byte) {})
	node := testKey("node")
	key := nodeKey(node.Node())
	young := sealNode(t, node, 2, testTime.Add(time.Minute))
	for _, value := range [][]byte{young, sealNode(t, node, 1, testTime.Add(time.Minute))} {
		if err := stow(t, s, key, value); err != nil {
			t.Fatal(err)
		}
	}
	data, err := s.Get(t.Context(), ds.NewKey(key))
	if err != nil || !bytes.Contains(data, young) {
		t.Errorf("an older record took the place of the newer: %v", err)
	}
	if err := stow(t, s, key, []byte("garbage")); err == nil {
		t.Error("garbage was stored")
	}
	if err := s.Put(t.Context(), ds.NewKey(key), []byte{0xff}); err == nil {
		t.Error("what is no record was stored")
	}
	if ok, err := s.Has(t.Context(), ds.NewKey(key)); !ok || err != nil {
		t.Errorf("has: %t, %v", ok, err)
	}
	if n, err := s.GetSize(t.Context(), ds.NewKey(key)); n != len(data) || err != nil {
		t.Errorf("size: %d, %v", n, err)
	}
	b.now = testTime.Add(time.Hour)
	s.sweep(b.now)
	if _, err := s.Get(t.Context(), ds.NewKey(key)); !errors.Is(err, ds.ErrNotFound) {
		t.Errorf("an expired record after the sweep: %v", err)
	}
	if n, size, _, expired := s.counts(); n != 0 || size != 0 || expired != 1 {
		t.Errorf("%d records, %d bytes, %d expired", n, size, expired)
	}
}

func TestStoreRecheck(t *testing.T) {
	b := newBench(t)
	s := newStore("self", 1<<20, b.open, func(string, []byte) {})
	for i := range 5 {
		n := fmt.Sprint("name", i)
		if err := stow(t, s, namePrefix+n, sealName(t, testKey("authority"), name.Name(n), 1, testTime.Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	node := testKey("node")
	if err := stow(t, s, nodeKey(node.Node()), sealNode(t, node, 1, testTime.Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	b.file.Authorities = nil
	b.purge()
	s.recheck()
	if n, _, _, _ := s.counts(); n != 1 {
		t.Errorf("%d records are left of an authority dismissed and a node", n)
	}
}
