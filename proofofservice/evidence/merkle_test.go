package evidence

import (
	"encoding/hex"
	"fmt"
	"testing"
)

// Reference: RFC 6962 §2.1; the roots are those of the tests of Google's
// certificate-transparency over the same eight leaves.
func TestMerkleRoots(t *testing.T) {
	inputs := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var leaves []Hash
	for n := range roots {
		if got := MerkleRoot(leaves); hex.EncodeToString(got[:]) != roots[n] {
			t.Errorf("%d leaves: %x", n, got)
		}
		if n < len(inputs) {
			leaves = append(leaves, LeafHash(unhex(t, inputs[n])))
		}
	}
}

func TestMerklePaths(t *testing.T) {
	for n := 1; n <= 40; n++ {
		leaves := make([]Hash, n)
		for i := range leaves {
			leaves[i] = LeafHash(fmt.Append(nil, i))
		}
		root := MerkleRoot(leaves)
		for i := range n {
			path := MerklePath(leaves, i)
			if !Included(root, uint64(n), uint64(i), leaves[i], path) {
				t.Fatalf("leaf %d of %d is not included", i, n)
			}
			for j := range n {
				if j != i && Included(root, uint64(n), uint64(j), leaves[i], path) {
					t.Fatalf("leaf %d of %d is at %d as well", i, n, j)
				}
			}
			if Included(root, uint64(n), uint64(i), LeafHash(nil), path) ||
				Included(root, uint64(n), uint64(i), leaves[i], append(path, Hash{})) ||
				len(path) > 0 && Included(root, uint64(n), uint64(i), leaves[i], path[1:]) ||
				Included(root, uint64(n), uint64(n), leaves[i], path) {
				t.Fatalf("leaf %d of %d: a false proof is believed", i, n)
			}
		}
	}
	if Included(Hash{}, 0, 0, Hash{}, nil) || Included(Hash{}, 1<<63, 0, Hash{}, make([]Hash, maxPath+1)) {
		t.Error("an impossible tree is believed")
	}
}
