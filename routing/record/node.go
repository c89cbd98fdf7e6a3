package record

import (
	"fmt"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
)

// NodeRecord says where a node is now. The node signs it and puts it anew at half
// its life and at once when it moves.
//
// Rules for adding a field: next integer key, omitempty, never reuse a key;
// older nodes refuse unknown keys, so a new field needs a new envelope type.
type NodeRecord struct {
	Node     identity.NodeID `cbor:"1,keyasint"`
	Sequence uint64          `cbor:"2,keyasint"`
	// NotAfter is the last second the record is current, in Unix seconds. A
	// locator of an expired record may still be probed.
	NotAfter int64 `cbor:"3,keyasint"`
	// Locators are the UDP addresses of the node's SAL, best first. The DHT
	// listens on the port after it. At most MaxLocators.
	Locators []Locator `cbor:"4,keyasint"`
	// Region is a free label such as "eu-central", at most MaxRegion bytes.
	Region string `cbor:"5,keyasint,omitempty"`
	// Load is how busy the node says it is, 0 (idle) to 255 (full).
	Load uint8 `cbor:"6,keyasint,omitempty"`
	// Mobile nodes are DHT clients: they store nothing for others.
	Mobile bool `cbor:"7,keyasint,omitempty"`
	// Relays are nodes that forward to this one, at most 4.
	Relays []identity.NodeID `cbor:"8,keyasint,omitempty"`
}

const nodeType = "node"

// Locator is one UDP address of a node, encoded as 6 or 18 bytes.
type Locator struct{ netip.AddrPort }

// MarshalBinary implements encoding.BinaryMarshaler: address then port, big
// endian. An IPv4 address mapped to IPv6 is written as IPv4, a zone is dropped,
// and what UnmarshalBinary would refuse is an error here already.
func (l Locator) MarshalBinary() ([]byte, error) {
	addr := l.Addr().Unmap()
	if !addr.IsValid() || l.Port() == 0 || addr.IsUnspecified() || addr.IsMulticast() {
		return nil, fmt.Errorf("%w: locator %s", ErrInvalid, l.AddrPort)
	}
	b := addr.AsSlice()
	return append(b, byte(l.Port()>>8), byte(l.Port())), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (l *Locator) UnmarshalBinary(b []byte) error {
	if len(b) != 6 && len(b) != 18 {
		return fmt.Errorf("%w: locator of %d bytes", ErrInvalid, len(b))
	}
	addr, _ := netip.AddrFromSlice(b[:len(b)-2])
	at := netip.AddrPortFrom(addr, uint16(b[len(b)-2])<<8|uint16(b[len(b)-1]))
	if addr.Is4In6() || at.Port() == 0 || addr.IsUnspecified() || addr.IsMulticast() {
		return fmt.Errorf("%w: locator %s", ErrInvalid, at)
	}
	l.AddrPort = at
	return nil
}

// Seal signs the record. The key must be the node's own.
func (r NodeRecord) Seal(key identity.PrivateKey) ([]byte, error) {
	if key.Node() != r.Node {
		return nil, ErrKey
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return seal(key, nodeType, r)
}

// OpenNode verifies an encoded NodeRecord of the node named. With an expired
// record it returns ErrExpired and the record, which may still be probed.
func OpenNode(node identity.NodeID, b []byte, now time.Time) (NodeRecord, error) {
	var r NodeRecord
	if err := open(nodeType, node, b, &r); err != nil {
		return NodeRecord{}, err
	}
	if r.Node != node {
		return NodeRecord{}, ErrKey
	}
	if err := r.validate(); err != nil {
		return NodeRecord{}, err
	}
	if expired(r.NotAfter, now) {
		return r, ErrExpired
	}
	return r, nil
}

// Addresses returns the locators as plain address-port pairs.
func (r NodeRecord) Addresses() []netip.AddrPort {
	out := make([]netip.AddrPort, len(r.Locators))
	for i, l := range r.Locators {
		out[i] = l.AddrPort
	}
	return out
}

func (r NodeRecord) validate() error {
	if len(r.Locators) > MaxLocators {
		return fmt.Errorf("%w: %d locators, at most %d", ErrLimit, len(r.Locators), MaxLocators)
	}
	if len(r.Region) > MaxRegion {
		return fmt.Errorf("%w: region of %d bytes, at most %d", ErrLimit, len(r.Region), MaxRegion)
	}
	if len(r.Relays) > 4 {
		return fmt.Errorf("%w: %d relays, at most 4", ErrLimit, len(r.Relays))
	}
	if r.NotAfter < 0 {
		return fmt.Errorf("%w: negative time", ErrInvalid)
	}
	return nil
}
