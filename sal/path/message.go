package path

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// errMalformed is the one error of all parsers: who sent it holds the key, so
// nothing depends on why.
var errMalformed = errors.New("path: malformed message")

// Frame kinds. Append only; a kind keeps its meaning and length forever.
const (
	kindPadding   = 0x00
	kindChallenge = 0x01
	kindEcho      = 0x02
	kindLocators  = 0x03
	kindProbe     = 0x04
	kindProbeEcho = 0x05
)

const (
	stateSize       = 1 + 4 + 4
	frameHeaderSize = 1 + 2
	addressSize     = 16 + 2
)

// Flags of a state. Unknown ones are ignored.
const (
	flagInUse = 0x01
	// The next two bits are what the sender thinks of the link it sends over.
	flagCostShift = 1
	flagCostMask  = 0x06
)

// state opens every message.
type state struct {
	// inUse is set on messages sent over the route the sender sends data by,
	// generation is since when.
	inUse      bool
	generation uint32
	// seen is the highest sequence of locators received from the peer.
	seen uint32
	// class is of the link it was sent over.
	class costClass
}

func (s state) append(b []byte) []byte {
	var flags byte
	if s.inUse {
		flags |= flagInUse
	}
	flags |= byte(s.class) << flagCostShift
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, s.generation)
	return binary.BigEndian.AppendUint32(b, s.seen)
}

func parseState(b []byte) (state, error) {
	if len(b) < stateSize {
		return state{}, errMalformed
	}
	return state{
		inUse:      b[0]&flagInUse != 0,
		generation: binary.BigEndian.Uint32(b[1:]),
		seen:       binary.BigEndian.Uint32(b[5:]),
		class:      costClass(b[0] & flagCostMask >> flagCostShift),
	}, nil
}

// message is the content of one datagram: a state and at most one frame of each
// kind.
type message struct {
	state     state
	challenge challenge
	echo      echo
	locators  locators
	probe     probe
	probeEcho probeEcho
	// has tells which frames are there, as 1<<kind.
	has uint8
	// padding is how many bytes of padding body to append; with pad it may be 0.
	// Parsing does not report it.
	padding int
	pad     bool
}

func (m *message) contains(kind int) bool { return m.has&(1<<kind) != 0 }

func (m *message) addChallenge(c challenge) { m.challenge, m.has = c, m.has|1<<kindChallenge }
func (m *message) addEcho(e echo)           { m.echo, m.has = e, m.has|1<<kindEcho }
func (m *message) addLocators(l locators)   { m.locators, m.has = l, m.has|1<<kindLocators }
func (m *message) addProbe(p probe)         { m.probe, m.has = p, m.has|1<<kindProbe }
func (m *message) addProbeEcho(p probeEcho) { m.probeEcho, m.has = p, m.has|1<<kindProbeEcho }

// padTo makes the datagram size bytes long, or leaves it as it is if it is
// longer than size minus a frame header.
func (m *message) padTo(size int) {
	if room := size - m.datagramSize() - frameHeaderSize; room >= 0 {
		m.pad, m.padding = true, room
	}
}

// datagramSize is the size of the sealed message.
func (m *message) datagramSize() int {
	n := headerSize + stateSize + tagSize
	for _, f := range []struct{ kind, size int }{
		{kindChallenge, challengeSize},
		{kindEcho, echoSize},
		{kindLocators, m.locators.size()},
		{kindProbe, probeSize},
		{kindProbeEcho, probeEchoSize},
	} {
		if m.contains(f.kind) {
			n += frameHeaderSize + f.size
		}
	}
	if m.pad {
		n += frameHeaderSize + m.padding
	}
	return n
}

// append appends the plaintext.
func (m *message) append(b []byte) []byte {
	b = m.state.append(b)
	if m.contains(kindChallenge) {
		b = m.challenge.append(appendFrameHeader(b, kindChallenge, challengeSize))
	}
	if m.contains(kindEcho) {
		b = m.echo.append(appendFrameHeader(b, kindEcho, echoSize))
	}
	if m.contains(kindLocators) {
		b = m.locators.append(appendFrameHeader(b, kindLocators, m.locators.size()))
	}
	if m.contains(kindProbe) {
		b = m.probe.append(appendFrameHeader(b, kindProbe, probeSize))
	}
	if m.contains(kindProbeEcho) {
		b = m.probeEcho.append(appendFrameHeader(b, kindProbeEcho, probeEchoSize))
	}
	if m.pad {
		b = appendFrameHeader(b, kindPadding, m.padding)
		b = append(b, make([]byte, m.padding)...)
	}
	return b
}

func appendFrameHeader(b []byte, kind byte, size int) []byte {
	return binary.BigEndian.AppendUint16(append(b, kind), uint16(size))
}

// parseMessage parses a whole plaintext. Nothing may be believed of a message
// that fails.
func parseMessage(b []byte) (message, error) {
	var m message
	var err error
	if m.state, err = parseState(b); err != nil {
		return message{}, err
	}
	b = b[stateSize:]
	for len(b) > 0 {
		if len(b) < frameHeaderSize {
			return message{}, errMalformed
		}
		kind, size := b[0], int(binary.BigEndian.Uint16(b[1:]))
		b = b[frameHeaderSize:]
		if size > len(b) {
			return message{}, errMalformed
		}
		body := b[:size]
		b = b[size:]
		if kind == kindPadding || kind > kindProbeEcho {
			continue
		}
		if m.contains(int(kind)) {
			return message{}, errMalformed
		}
		m.has |= 1 << kind
		switch kind {
		case kindChallenge:
			m.challenge, err = parseChallenge(body)
		case kindEcho:
			m.echo, err = parseEcho(body)
		case kindLocators:
			m.locators, err = parseLocators(body)
		case kindProbe:
			m.probe, err = parseProbe(body)
		case kindProbeEcho:
			m.probeEcho, err = parseProbeEcho(body)
		}
		if err != nil {
			return message{}, err
		}
	}
	return m, nil
}

func appendAddress(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
}

// parseAddress parses addressSize bytes, which must be there.
func parseAddress(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
}
