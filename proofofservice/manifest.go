package proofofservice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// ManifestPath is where a service offers its manifest over HTTP, beside the content.
const ManifestPath = "/.well-known/scn-content"

// Bounds of a manifest.
const (
	// MaxManifest is its size in bytes: 4 GiB of content in blocks of 32 KiB.
	MaxManifest = manifestHead + 255 + 1024 + identity.SignatureSize + maxPublished*32

	// MaxPublished is the size of what may be published in blocks of 16 KiB.
	MaxPublished = maxPublished * (16 << 10)

	maxPublished   = 1 << 17
	manifestHead   = 1 + 32 + 8 + 2 + 8 + 4 + 32 + 1 + 2
	manifestDomain = "scn/content/v1"
	manifestType   = "manifest"
)

// Errors of ParseManifest.
var (
	// ErrManifest is returned for bytes that are no manifest.
	ErrManifest = errors.New("proofofservice: bad manifest")
	// ErrManifestSignature is returned for one that the service did not sign.
	ErrManifestSignature = errors.New("proofofservice: the service did not sign this manifest")
)

// Manifest is what a service's owner publishes of a file that everybody may ask for,
// signed with the service's key, so that any provider can hand it out:
//
//	version u8 ‖ service 32 ‖ sequence u64 ‖ port u16 ‖ size u64 ‖ block u32 ‖ root 32 ‖
//	host length u8 ‖ path length u16 ‖ host ‖ path ‖ signature 64 ‖ leaves 32 each
//
// The signature covers the network and everything before it; the leaves are those
// under the root. There are as many as size and block say; a field is added with a new
// version only.
type Manifest struct {
	Service identity.ServiceID
	// Sequence orders the manifests of a service: the highest holds.
	Sequence uint64
	Content  Content
	// Signature is the service's.
	Signature [identity.SignatureSize]byte
}

func (m *Manifest) appendBody(b []byte) []byte {
	c := &m.Content
	b = append(append(b, 1), m.Service[:]...)
	b = binary.BigEndian.AppendUint64(b, m.Sequence)
	b = binary.BigEndian.AppendUint16(b, c.Port)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Size))
	b = binary.BigEndian.AppendUint32(b, c.Block)
	b = append(append(b, c.Root[:]...), byte(len(c.Host)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Path)))
	return append(append(b, c.Host...), c.Path...)
}

// check reports what a manifest must not have besides Content.Validate.
func (m *Manifest) check() error {
	c := &m.Content
	if len(c.Host) > 255 || len(c.Path) > 1024 || len(c.Leaves) > maxPublished {
		return fmt.Errorf("%w: a host of %d bytes, a path of %d, %d blocks", ErrManifest, len(c.Host), len(c.Path), len(c.Leaves))
	}
	for _, text := range []string{c.Host, c.Path} {
		for _, r := range []byte(text) {
			if r <= ' ' || r >= 0x7f {
				return fmt.Errorf("%w: %q", ErrManifest, text)
			}
		}
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

// Sign signs it with the service's key, which names the service.
func (m *Manifest) Sign(service identity.PrivateKey, network identity.NetworkID) error {
	m.Service = service.Service()
	if err := m.check(); err != nil {
		return err
	}
	m.Signature = service.Sign(manifestDomain, manifestType, m.appendBody(bytes.Clone(network[:])))
	return nil
}

// Append appends the encoded manifest to b.
func (m *Manifest) Append(b []byte) []byte {
	b = append(m.appendBody(b), m.Signature[:]...)
	for _, leaf := range m.Content.Leaves {
		b = append(b, leaf[:]...)
	}
	return b
}

// ParseManifest reads a manifest and verifies its signature and its leaves.
func ParseManifest(network identity.NetworkID, b []byte) (Manifest, error) {
	var m Manifest
	if len(b) < manifestHead+identity.SignatureSize || b[0] != 1 {
		return m, fmt.Errorf("%w: %d bytes", ErrManifest, len(b))
	}
	c := &m.Content
	at := 1 + copy(m.Service[:], b[1:])
	m.Sequence = binary.BigEndian.Uint64(b[at:])
	c.Port = binary.BigEndian.Uint16(b[at+8:])
	size := binary.BigEndian.Uint64(b[at+10:])
	c.Block = binary.BigEndian.Uint32(b[at+18:])
	at += 22 + copy(c.Root[:], b[at+22:])
	host, path := int(b[at]), int(binary.BigEndian.Uint16(b[at+1:]))
	at += 3
	if c.Block == 0 || size == 0 || size > maxPublished*MaxBlock {
		return m, fmt.Errorf("%w: %d bytes in blocks of %d", ErrManifest, size, c.Block)
	}
	c.Size = int64(size)
	blocks := (c.Size + int64(c.Block) - 1) / int64(c.Block)
	if blocks > maxPublished || int64(len(b)) != int64(at+host+path+identity.SignatureSize)+32*blocks {
		return m, fmt.Errorf("%w: %d bytes, %d blocks", ErrManifest, len(b), blocks)
	}
	c.Host, c.Path = string(b[at:at+host]), string(b[at+host:at+host+path])
	at += host + path
	at += copy(m.Signature[:], b[at:])
	signed := append(bytes.Clone(network[:]), b[:at-identity.SignatureSize]...)
	if !identity.Verify(m.Service, manifestDomain, manifestType, signed, m.Signature) {
		return m, ErrManifestSignature
	}
	c.Leaves = make([]evidence.Hash, blocks)
	for i := range c.Leaves {
		at += copy(c.Leaves[i][:], b[at:])
	}
	return m, m.check()
}
