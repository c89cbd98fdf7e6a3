package sal

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
)

// relayMessageKind says what a message between a node and a relay is.
//
// Rules for adding one: append only, never reuse a number. A kind that is not known
// is skipped.
type relayMessageKind uint8

const (
	// relayRegister asks for a registration; the first message of the node.
	relayRegister relayMessageKind = 1
	// relayRegistered grants it, relayRefused does not; the first of the relay.
	relayRegistered relayMessageKind = 2
	relayRefused    relayMessageKind = 3
	// relayRelays names other relays.
	relayRelays relayMessageKind = 4
)

// relayReason says why a relay refused, as it travels. Append only.
type relayReason uint8

const (
	// relayFull means the relay has as many registrations as it takes.
	relayFull relayReason = 1
	// relayVersion means the relay does not speak this version.
	relayVersion relayReason = 2
)

// String returns the reason in words.
func (r relayReason) String() string {
	switch r {
	case relayFull:
		return "full"
	case relayVersion:
		return "speaks another version"
	}
	return "refused"
}

// Limits and sizes.
const (
	relayHeaderSize = 3
	// maxRelayBody bounds a message.
	maxRelayBody = 1 << 10
	// maxToldRelays and maxToldAddresses bound a list of relays.
	maxToldRelays    = 8
	maxToldAddresses = 4
	addressSize      = 18
)

// flagRelay, in a registration, says that the node is a relay itself.
const flagRelay = 0x01

// relayMessage is what a node and a relay tell one another on the stream of a
// registration. A message is
//
//	0  kind (1)
//	1  length of the body (2, big endian)
//	3  body
//
// and the bodies are
//
//	register    version (1) ‖ flags (1)
//	registered  version (1) ‖ token (7) ‖ bytes a second each way (8)
//	refused     version (1) ‖ reason (1) ‖ seconds until it is worth another try (2)
//	relays      { node ID (32) ‖ number of addresses (1) ‖ addresses (18 each) } …
//
// with integers big endian and addresses as 16 bytes (IPv4 as ::ffff:a.b.c.d) and a
// port. Rules for adding a field: append to the body; bytes after the last known
// field are ignored, but in relays, where nothing may be left over.
type relayMessage struct {
	Kind    relayMessageKind
	Version uint8
	Flags   uint8
	Token   relay.Token
	Rate    uint64
	Reason  relayReason
	After   time.Duration // of whole seconds
	Relays  []toldRelay
}

// toldRelay is another relay and where it is.
type toldRelay struct {
	Node      identity.NodeID
	Addresses []netip.AddrPort
}

// Append appends the encoded message to b.
func (m relayMessage) Append(b []byte) []byte {
	start := len(b)
	b = append(b, byte(m.Kind), 0, 0)
	switch m.Kind {
	case relayRegister:
		b = append(b, m.Version, m.Flags)
	case relayRegistered:
		b = append(append(b, m.Version), m.Token[:]...)
		b = binary.BigEndian.AppendUint64(b, m.Rate)
	case relayRefused:
		b = append(b, m.Version, byte(m.Reason))
		b = binary.BigEndian.AppendUint16(b, uint16(min(max(m.After/time.Second, 0), 1<<16-1)))
	case relayRelays:
		for _, r := range m.Relays[:min(len(m.Relays), maxToldRelays)] {
			addresses := r.Addresses[:min(len(r.Addresses), maxToldAddresses)]
			b = append(append(b, r.Node[:]...), byte(len(addresses)))
			for _, a := range addresses {
				ip := a.Addr().As16()
				b = binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
			}
		}
	}
	binary.BigEndian.PutUint16(b[start+1:], uint16(len(b)-start-relayHeaderSize))
	return b
}

// errSkipped is returned for a message of a kind not known, which is no fault.
var errSkipped = errors.New("sal: unknown relay message")

// parseRelayHeader returns the kind of a message and the length of its body.
func parseRelayHeader(b []byte) (kind relayMessageKind, body int, err error) {
	if len(b) < relayHeaderSize {
		return 0, 0, errTruncated
	}
	if body = int(binary.BigEndian.Uint16(b[1:])); body > maxRelayBody {
		return 0, 0, errTooLong
	}
	return relayMessageKind(b[0]), body, nil
}

// parseRelayMessage parses a whole message and returns how many bytes it took.
func parseRelayMessage(b []byte) (m relayMessage, n int, err error) {
	kind, size, err := parseRelayHeader(b)
	if err != nil {
		return m, 0, err
	}
	n = relayHeaderSize + size
	if len(b) < n {
		return m, 0, errTruncated
	}
	b = b[relayHeaderSize:n]
	m.Kind = kind
	need := map[relayMessageKind]int{relayRegister: 2, relayRegistered: 16, relayRefused: 4}
	if len(b) < need[kind] {
		return relayMessage{}, 0, errTruncated
	}
	switch kind {
	case relayRegister:
		m.Version, m.Flags = b[0], b[1]
	case relayRegistered:
		m.Version, m.Token, m.Rate = b[0], relay.Token(b[1:8]), binary.BigEndian.Uint64(b[8:])
	case relayRefused:
		m.Version, m.Reason = b[0], relayReason(b[1])
		m.After = time.Duration(binary.BigEndian.Uint16(b[2:])) * time.Second
	case relayRelays:
		m.Relays, err = parseToldRelays(b)
	default:
		err = errSkipped
	}
	return m, n, err
}

// parseToldRelays parses a list of relays. Addresses nobody can have are left out.
func parseToldRelays(b []byte) (list []toldRelay, err error) {
	for len(b) > 0 {
		if len(b) < identity.Size+1 {
			return nil, errTruncated
		}
		r, count := toldRelay{Node: identity.NodeID(b[:identity.Size])}, int(b[identity.Size])
		b = b[identity.Size+1:]
		if len(list) == maxToldRelays || count > maxToldAddresses {
			return nil, errTooLong
		}
		if len(b) < count*addressSize {
			return nil, errTruncated
		}
		for range count {
			a := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])).Unmap(), binary.BigEndian.Uint16(b[16:]))
			b = b[addressSize:]
			if a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() {
				r.Addresses = append(r.Addresses, a)
			}
		}
		list = append(list, r)
	}
	return list, nil
}

// readRelayMessage reads the next message whose kind is known, at most limit bytes
// of body.
func readRelayMessage(r io.Reader, limit int) (relayMessage, error) {
	for {
		var head [relayHeaderSize]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return relayMessage{}, err
		}
		_, body, err := parseRelayHeader(head[:])
		if err == nil && body > limit {
			err = errTooLong
		}
		if err != nil {
			return relayMessage{}, err
		}
		b := append(make([]byte, 0, relayHeaderSize+body), head[:]...)
		b = b[:relayHeaderSize+body]
		if _, err := io.ReadFull(r, b[relayHeaderSize:]); err != nil {
			return relayMessage{}, err
		}
		m, _, err := parseRelayMessage(b)
		if errors.Is(err, errSkipped) {
			continue
		}
		return m, err
	}
}
