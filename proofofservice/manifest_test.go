package proofofservice

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

func testManifest(t testing.TB, file []byte) (Manifest, []byte) {
	t.Helper()
	leaves := Leaves(file, 100)
	m := Manifest{Sequence: 7, Content: Content{
		Port: 80, Host: "files.top", Path: "/file", Size: int64(len(file)), Block: 100, Root: evidence.MerkleRoot(leaves), Leaves: leaves,
	}}
	if err := m.Sign(identity.NewKeyFromSeed([32]byte{3}), identity.NetworkID{1}); err != nil {
		t.Fatal(err)
	}
	return m, m.Append(nil)
}

func TestManifest(t *testing.T) {
	m, b := testManifest(t, bytes.Repeat([]byte("0123456789"), 35))
	got, err := ParseManifest(identity.NetworkID{1}, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
	if _, err := ParseManifest(identity.NetworkID{2}, b); !errors.Is(err, ErrManifestSignature) {
		t.Errorf("another network's: %v", err)
	}
	for n := range len(b) {
		if _, err := ParseManifest(identity.NetworkID{1}, b[:n]); err == nil {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	}
	if _, err := ParseManifest(identity.NetworkID{1}, append(bytes.Clone(b), 0)); !errors.Is(err, ErrManifest) {
		t.Errorf("a byte too many: %v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseManifest(identity.NetworkID{1}, bad); err == nil {
			t.Fatalf("byte %d may be changed", i)
		}
	}
	m.Content.Path = "/with space"
	if err := m.Sign(identity.NewKeyFromSeed([32]byte{3}), identity.NetworkID{1}); !errors.Is(err, ErrManifest) {
		t.Errorf("a path that is no path: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	_, b := testManifest(f, []byte("content"))
	f.Add(b)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(identity.NetworkID{1}, b)
		if err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%x is not what it was read from", m.Append(nil))
		}
	})
}
