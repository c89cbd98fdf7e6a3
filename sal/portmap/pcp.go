package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// pcpPort is where routers speak PCP and NAT-PMP.
	pcpPort = 5351
	// pcpSize is the size of a MAP request and of its answer (RFC 6887 §7, §11.1).
	pcpSize    = 60
	pcpVersion = 2
	pcpMap     = 1
	pcpAnswer  = 0x80 | pcpMap
	protoUDP   = 17
)

// Errors of the protocols.
var (
	errMalformed = errors.New("portmap: malformed answer")
	errRefused   = errors.New("portmap: the router refused")
)

// pcp speaks PCP with one gateway. The nonce is what a mapping is known by, and
// what keeps others from changing it.
type pcp struct {
	gateway, local netip.Addr
	nonce          [12]byte
}

func newPCP(gateway, local netip.Addr) *pcp {
	p := &pcp{gateway: gateway, local: local}
	_, _ = rand.Read(p.nonce[:]) // never fails
	return p
}

func (p *pcp) name() string { return "pcp" }

// add implements protocol.
func (p *pcp) add(ctx context.Context, internal, external uint16, life time.Duration) (netip.AddrPort, time.Duration, error) {
	request := appendPCP(nil, p.local, p.nonce, internal, external, life)
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.local, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.gateway, pcpPort)))
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var buffer [1100]byte // RFC 6887 §7
	for pause := 250 * time.Millisecond; ; pause *= 2 {
		if _, err := conn.Write(request); err != nil {
			return netip.AddrPort{}, 0, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(pause))
		for {
			n, err := conn.Read(buffer[:])
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				break
			}
			if err != nil {
				return netip.AddrPort{}, 0, errors.Join(ctx.Err(), err)
			}
			mapped, granted, err := parsePCP(buffer[:n], p.nonce, internal)
			if errors.Is(err, errMalformed) {
				continue // somebody else's, or an earlier one
			}
			return mapped, granted, err
		}
	}
}

// remove implements protocol.
func (p *pcp) remove(ctx context.Context, internal, _ uint16) error {
	_, _, err := p.add(ctx, internal, 0, 0)
	return err
}

// appendPCP appends a MAP request:
//
//	version ‖ opcode ‖ 0 (2) ‖ lifetime (4) ‖ client address (16)
//	nonce (12) ‖ protocol ‖ 0 (3) ‖ internal port (2) ‖ external port (2) ‖ external address (16)
func appendPCP(b []byte, local netip.Addr, nonce [12]byte, internal, external uint16, life time.Duration) []byte {
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(life/time.Second))
	client := local.As16()
	b = append(b, client[:]...)
	b = append(b, nonce[:]...)
	b = append(b, protoUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, internal)
	b = binary.BigEndian.AppendUint16(b, external)
	any4 := netip.IPv4Unspecified().As16() // "::ffff:0.0.0.0": any IPv4 address
	return append(b, any4[:]...)
}

// parsePCP reads the answer to a MAP request. What is no answer to it at all is
// errMalformed, and may be passed over. Options behind it are ignored.
func parsePCP(b []byte, nonce [12]byte, internal uint16) (mapped netip.AddrPort, life time.Duration, err error) {
	if len(b) >= 4 && b[0] == 0 && b[1] >= 0x80 {
		// A NAT-PMP router says that it does not know the version (RFC 6886 §9).
		return mapped, 0, fmt.Errorf("%w: it speaks NAT-PMP only", errRefused)
	}
	if len(b) < pcpSize || b[0] != pcpVersion || b[1] != pcpAnswer {
		if len(b) >= 4 && b[0] == pcpVersion && b[1] == pcpAnswer && b[3] != 0 {
			return mapped, 0, fmt.Errorf("%w: result %d", errRefused, b[3])
		}
		return mapped, 0, errMalformed
	}
	if [12]byte(b[24:36]) != nonce || b[36] != protoUDP || binary.BigEndian.Uint16(b[40:]) != internal {
		return mapped, 0, errMalformed
	}
	if b[3] != 0 {
		return mapped, 0, fmt.Errorf("%w: result %d", errRefused, b[3])
	}
	life = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	address := netip.AddrFrom16([16]byte(b[44:60])).Unmap()
	return netip.AddrPortFrom(address, binary.BigEndian.Uint16(b[42:])), life, nil
}
