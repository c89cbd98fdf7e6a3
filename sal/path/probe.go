package path

import "encoding/binary"

// A probe is padded so that its IP packet has the size it names; that it arrived
// is the answer.
type probe struct {
	nonce uint64
	size  uint16
}

const probeSize = 8 + 2

func (p probe) append(b []byte) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(b, p.nonce), p.size)
}

func parseProbe(b []byte) (probe, error) {
	if len(b) != probeSize {
		return probe{}, errMalformed
	}
	return probe{nonce: binary.BigEndian.Uint64(b), size: binary.BigEndian.Uint16(b[8:])}, nil
}

// A probeEcho answers a probe; it is small, since only the probe's way is asked
// about.
type probeEcho struct {
	nonce uint64
	size  uint16
}

const probeEchoSize = probeSize

func (p probeEcho) append(b []byte) []byte { return probe(p).append(b) }

func parseProbeEcho(b []byte) (probeEcho, error) {
	p, err := parseProbe(b)
	return probeEcho(p), err
}
