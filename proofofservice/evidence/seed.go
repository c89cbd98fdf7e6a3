package evidence

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"scn.alt/scn/routing/identity"
)

// SeedLead is how many epochs lie between the one in which the outputs for a seed
// are posted and the one the seed is for: outputs posted during E−2 make the seed
// of E. RosterLead is the same for the roster, which is frozen at the end of E−3:
// before the first of those outputs is known.
const (
	SeedLead   = 2
	RosterLead = 3
)

// MaxAuthorities is how many authorities post at most.
const MaxAuthorities = 256

// ErrPosts is returned for posts that are not sorted, not distinct, or too many.
var ErrPosts = errors.New("evidence: bad set of posts")

// Seed is the public randomness of an epoch.
type Seed [32]byte

// SeedPost is what one authority posts for the seed of an epoch.
type SeedPost struct {
	Authority identity.AccountID
	Output    VRFOutput
}

// SeedInput is what an authority's output for the seed of epoch is computed over.
// previous is the seed of the epoch before.
func SeedInput(network identity.NetworkID, epoch uint64, previous Seed) []byte {
	return input("scn/seed/v1", network, epoch, previous[:])
}

// NextSeed returns the seed of epoch from that of the epoch before and the outputs
// posted for it, in ascending order of authorities. It may be that none was: an
// epoch goes on without, and who withheld is seen by what is missing.
func NextSeed(network identity.NetworkID, epoch uint64, previous Seed, posts []SeedPost) (Seed, error) {
	if len(posts) > MaxAuthorities || !slices.IsSortedFunc(posts, comparePosts) {
		return Seed{}, fmt.Errorf("%w: %d of at most %d, in ascending order", ErrPosts, len(posts), MaxAuthorities)
	}
	h := sha256.New()
	h.Write(input("scn/next seed/v1", network, epoch, previous[:]))
	for i, p := range posts {
		if i > 0 && posts[i-1].Authority == p.Authority {
			return Seed{}, fmt.Errorf("%w: %s twice", ErrPosts, p.Authority)
		}
		h.Write(p.Authority[:])
		h.Write(p.Output[:])
	}
	return Seed(h.Sum(nil)), nil
}

// PlanInput is what an inspector's output, and so its plan, is computed over.
func PlanInput(network identity.NetworkID, epoch uint64, seed Seed) []byte {
	return input("scn/plan/v1", network, epoch, seed[:])
}

func comparePosts(a, b SeedPost) int { return bytes.Compare(a.Authority[:], b.Authority[:]) }
