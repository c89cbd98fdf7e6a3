package record

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"scn.alt/scn/routing/identity"
)

// anyRecord draws a record in which every node has at most one fate.
func anyRecord(t *rapid.T, label string) ServiceRecord {
	r := ServiceRecord{Service: testKey.Service(), NotAfter: rapid.Int64Range(0, 3).Draw(t, label+" end")}
	fates := rapid.MapOfN(rapid.Uint8Range(0, 9), rapid.Uint64Range(0, 4), 0, 8).Draw(t, label+" fates")
	for n := range uint8(10) {
		since, ok := fates[n]
		if !ok {
			continue
		}
		r.Sequence = max(r.Sequence, since)
		if rapid.Bool().Draw(t, label+" granted") {
			p := rapid.Uint16Range(0, 2).Draw(t, label+" priority")
			r.Grants = append(r.Grants, Grant{node(n), since, p, p})
		} else {
			r.Tombstones = append(r.Tombstones, Tombstone{node(n), since})
		}
	}
	if rapid.Bool().Draw(t, label+" port") {
		r.Ports = []Port{{rapid.Uint16Range(1, 3).Draw(t, label+" number"), TCP}}
	}
	r.Sequence += rapid.Uint64Range(0, 1).Draw(t, label+" sequence")
	return r
}

// fates is what must not depend on the order of merging.
func fates(r ServiceRecord) (out struct {
	Grants     []Grant
	Tombstones []Tombstone
	NotAfter   int64
	Sequence   uint64
},
) {
	out.Grants, out.Tombstones = slices.Clip(r.Grants), slices.Clip(r.Tombstones)
	out.NotAfter, out.Sequence = r.NotAfter, r.Sequence
	return out
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyRecord(t, "a"), anyRecord(t, "b"), anyRecord(t, "c")
		for _, r := range []ServiceRecord{a, b, c, Merge(a, b)} {
			if err := r.validate(); err != nil {
				t.Fatalf("invalid: %v", err)
			}
		}
		if diff := cmp.Diff(Merge(a, b), Merge(b, a)); diff != "" {
			t.Fatalf("not commutative: %s", diff)
		}
		if diff := cmp.Diff(string(mustMarshal(a)), string(mustMarshal(Merge(a, a)))); diff != "" {
			t.Fatalf("not idempotent: %s", diff)
		}
		ab := Merge(a, b)
		if diff := cmp.Diff(fates(ab), fates(Merge(ab, b))); diff != "" {
			t.Fatalf("merging what is in it already changes it: %s", diff)
		}
		if diff := cmp.Diff(fates(Merge(ab, c)), fates(Merge(a, Merge(b, c)))); diff != "" {
			t.Fatalf("not associative: %s", diff)
		}
		for _, tomb := range slices.Concat(a.Tombstones, b.Tombstones) {
			if g, ok := ab.Granted(tomb.Node); ok && g.Since <= tomb.Since {
				t.Fatalf("%v came back over its revocation at %d", g, tomb.Since)
			}
		}
	})
}

// What one writer does after a merge holds against both records merged.
func TestChangesWinOverMerged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyRecord(t, "a"), anyRecord(t, "b")
		n := identity.NodeID{rapid.Uint8Range(0, 9).Draw(t, "node")}
		m := Merge(a, b)
		granted := m.Grant(Grant{Node: n}, m.Sequence+1)
		revoked := m.Revoke(n, m.Sequence+1)
		for _, old := range []ServiceRecord{a, b} {
			if _, ok := Merge(granted, old).Granted(n); !ok {
				t.Fatalf("the grant of %v was lost", n)
			}
			if _, ok := Merge(revoked, old).Granted(n); ok {
				t.Fatalf("the revocation of %v was lost", n)
			}
		}
	})
}
