package evidence

import (
	"crypto/sha256"
	"encoding/binary"

	"scn.alt/scn/routing/identity"
)

// Canary is a provider of which somebody trusted knows, for a span of epochs,
// whether it is alive. Its hash is posted before the span begins and the canary
// itself after it ended, so that inspectors learn too late which ones they were.
//
//	version u8 ‖ service 32 ‖ node 32 ‖ from u64 ‖ to u64 ‖ alive u8 ‖ salt 32
type Canary struct {
	Service identity.ServiceID
	Node    identity.NodeID
	// From and To are the first and the last epoch.
	From, To uint64
	Alive    bool
	Salt     [32]byte
}

// CanarySize is the length of a canary's encoding.
const CanarySize = 1 + 32 + 32 + 8 + 8 + 1 + 32

// Append appends the encoding.
func (c Canary) Append(b []byte) []byte {
	b = append(b, version)
	b = append(b, c.Service[:]...)
	b = append(b, c.Node[:]...)
	b = binary.BigEndian.AppendUint64(b, c.From)
	b = binary.BigEndian.AppendUint64(b, c.To)
	return append(appendFlag(b, c.Alive), c.Salt[:]...)
}

// ParseCanary reads an encoding of CanarySize bytes.
func ParseCanary(b []byte) (Canary, error) {
	f := open(b)
	c := Canary{
		Service: f.hash(), Node: f.hash(), From: f.uint64(), To: f.uint64(), Alive: f.flag(), Salt: f.hash(),
	}
	f.require(c.From <= c.To, "from epoch %d to %d", c.From, c.To)
	return c, f.end("canary")
}

// Commit returns what is posted beforehand.
func (c Canary) Commit(network identity.NetworkID) Hash {
	h := sha256.New()
	h.Write(input("scn/canary/v1", network, c.From, nil))
	h.Write(c.Append(nil))
	return Hash(h.Sum(nil))
}

// Covers reports whether the canary tells the truth about a provider in an epoch.
func (c Canary) Covers(p Provider, epoch uint64) bool {
	return c.Service == p.Service && c.Node == p.Node && c.From <= epoch && epoch <= c.To
}
