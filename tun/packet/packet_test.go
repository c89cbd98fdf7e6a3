package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	app4     = netip.MustParseAddrPort("198.18.0.1:40000")
	virtual4 = netip.MustParseAddrPort("198.18.77.5:80")
	peer4    = netip.MustParseAddrPort("198.18.0.2:1024")
	own4     = netip.MustParseAddrPort("198.18.0.1:33333")
	app6     = netip.MustParseAddrPort("[fd12:3456:789a::1]:40000")
	virtual6 = netip.MustParseAddrPort("[fd12:3456:789a:8001:2:3:4:5]:80")
	peer6    = netip.MustParseAddrPort("[fd12:3456:789a::2]:65535")
	own6     = netip.MustParseAddrPort("[fd12:3456:789a::1]:33333")
)

// naiveSum is RFC 1071 word by word: the model the fast code is held against.
func naiveSum(parts ...[]byte) uint16 {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var s uint32
	for i := 0; i < len(all); i += 2 {
		s += uint32(all[i])<<8 | uint32(all[i+1])
		if s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return ^uint16(s)
}

// verify fails unless every checksum in the packet is right, from scratch.
func verify(t *testing.T, b []byte) Header {
	t.Helper()
	h, err := Parse(b)
	if err != nil {
		t.Fatalf("%v: %x", err, b[:min(len(b), 100)])
	}
	if h.Length != len(b) {
		t.Fatalf("length %d of %d", h.Length, len(b))
	}
	if !h.Is6 && naiveSum(b[:h.Offset]) != 0 {
		t.Fatalf("IP checksum: %x", b[:h.Offset])
	}
	p := b[h.Offset:]
	if h.Protocol == UDP && p[6] == 0 && p[7] == 0 && !h.Is6 {
		return h
	}
	var ph []byte
	switch {
	case h.Protocol == ICMP:
	case h.Is6:
		ph = append(ph, b[8:40]...)
		ph = binary.BigEndian.AppendUint32(ph, uint32(len(p)))
		ph = append(ph, 0, 0, 0, h.Protocol)
	default:
		ph = append(ph, b[12:20]...)
		ph = append(ph, 0, h.Protocol)
		ph = binary.BigEndian.AppendUint16(ph, uint16(len(p)))
	}
	if c := naiveSum(ph, p); c != 0 {
		t.Fatalf("transport checksum is off by %#x", c)
	}
	return h
}

func tcpPacket(src, dst netip.AddrPort, flags byte, seq, ack uint32, options, payload []byte) []byte {
	n := 20 + len(options) + len(payload)
	b := appendIP(nil, src.Addr(), dst.Addr(), TCP, n)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, byte(20+len(options))<<2, flags, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, options...)
	b = append(b, payload...)
	finish(b, at, 16, src.Addr(), dst.Addr(), TCP)
	return b
}

func TestChecksumAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				b[i] = 0xff
			}
		}
		// ~0 and 0 are the same number in one's complement.
		if got, want := Checksum(b), naiveSum(b); got != want && got^want != 0xffff {
			t.Fatalf("%x: %#x, want %#x", b, got, want)
		}
	}
}

func TestTurnAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ src, dst, newSrc, newDst netip.AddrPort }{
		{app4, virtual4, peer4, own4},
		{own4, peer4, virtual4, app4},
		{app6, virtual6, peer6, own6},
		{own6, peer6, virtual6, app6},
	} {
		turn := NewTurn(c.src, c.dst, c.newSrc, c.newDst)
		for range 500 {
			payload := make([]byte, r.IntN(300))
			for i := range payload {
				payload[i] = byte(r.Uint32())
			}
			options := make([]byte, 4*r.IntN(11))
			b := tcpPacket(c.src, c.dst, byte(r.Uint32()), r.Uint32(), r.Uint32(), options, payload)
			verify(t, b)
			h, _ := Parse(b)
			turn.Apply(b, &h)
			got := verify(t, b)
			if got.Source() != c.newSrc || got.Destination() != c.newDst {
				t.Fatalf("%s → %s", got.Source(), got.Destination())
			}
			if !bytes.HasSuffix(b, payload) {
				t.Fatal("the payload changed")
			}
		}
	}
}

func TestTurnAllocatesNothing(t *testing.T) {
	b := tcpPacket(app4, virtual4, ACK, 1, 2, nil, make([]byte, 60000))
	turn := NewTurn(app4, virtual4, peer4, own4)
	if n := testing.AllocsPerRun(100, func() {
		h, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		turn.Apply(b, &h)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func TestReset(t *testing.T) {
	for _, c := range []struct {
		name             string
		flags            byte
		payload          int
		wantSeq, wantAck uint32
		wantFlags        byte
		seq, ack         uint32
		src, dst         netip.AddrPort
	}{
		{"SYN", SYN, 0, 0, 101, RST | ACK, 100, 0, app4, virtual4},
		{"SYN over IPv6", SYN, 0, 0, 101, RST | ACK, 100, 0, app6, virtual6},
		{"ACK", ACK, 10, 7, 0, RST, 100, 7, app4, virtual4},
		{"FIN without ACK", FIN, 5, 0, 106, RST | ACK, 100, 0, app4, virtual4},
		{"wrapping", SYN, 0, 0, 0, RST | ACK, 0xffffffff, 0, app4, virtual4},
	} {
		orig := tcpPacket(c.src, c.dst, c.flags, c.seq, c.ack, nil, make([]byte, c.payload))
		h, _ := Parse(orig)
		b := AppendReset(nil, orig, &h)
		got := verify(t, b)
		p := b[got.Offset:]
		if got.Source() != c.dst || got.Destination() != c.src || p[13] != c.wantFlags ||
			binary.BigEndian.Uint32(p[4:]) != c.wantSeq || binary.BigEndian.Uint32(p[8:]) != c.wantAck {
			t.Errorf("%s: %x", c.name, p)
		}
	}
}

func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		src, dst   netip.AddrPort
		from       netip.Addr
		reason     Reason
		typ, code  byte
		size, want int
	}{
		{app4, virtual4, peer4.Addr(), HostUnreachable, 3, 1, 0, 20 + 8 + 40},
		{app4, virtual4, peer4.Addr(), Prohibited, 3, 13, 9000, 576},
		{app6, virtual6, peer6.Addr(), PortUnreachable, 1, 4, 0, 40 + 8 + 60},
		{app6, virtual6, peer6.Addr(), HostUnreachable, 1, 3, 9000, 1280},
	} {
		orig := tcpPacket(c.src, c.dst, SYN, 1, 2, nil, make([]byte, c.size))
		h, _ := Parse(orig)
		b := AppendUnreachable(nil, c.from, orig, &h, c.reason)
		got := verify(t, b)
		p := b[got.Offset:]
		if p[0] != c.typ || p[1] != c.code || len(b) != c.want || got.Src != c.from || got.Dst != c.src.Addr() {
			t.Errorf("%+v: %d bytes %x", c, len(b), p[:8])
		}
		if !bytes.HasPrefix(orig, p[8:]) || !IsICMPError(b, &got) || IsEchoRequest(b, &got) {
			t.Error("the quoted packet differs")
		}
	}
}

func TestEchoReply(t *testing.T) {
	for _, src := range []netip.Addr{app4.Addr(), app6.Addr()} {
		dst, protocol, typ := virtual4.Addr(), uint8(ICMP), byte(8)
		if src.Is6() {
			dst, protocol, typ = virtual6.Addr(), ICMPv6, 128
		}
		body := []byte{typ, 0, 0, 0, 0x12, 0x34, 0, 1, 'h', 'e', 'l', 'l', 'o'}
		b := appendIP(nil, src, dst, protocol, len(body))
		at := len(b)
		b = append(b, body...)
		finish(b, at, 2, src, dst, protocol)
		b[8-boolInt(src.Is6())] = 17 // a TTL of its own
		if !src.Is6() {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], Checksum(b[:20]))
		}
		h := verify(t, b)
		if !IsEchoRequest(b, &h) {
			t.Fatal("not an echo request")
		}
		EchoReply(b, &h)
		got := verify(t, b)
		if got.Src != dst || got.Dst != src || !bytes.Equal(b[at+4:], body[4:]) {
			t.Errorf("%x", b)
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestPutUDP(t *testing.T) {
	for _, size := range []int{0, 1, 100, 65507} {
		for _, c := range []struct{ src, dst netip.AddrPort }{{virtual4, app4}, {virtual6, app6}} {
			b := make([]byte, UDPHeadroom+size)
			for i := range b {
				b[i] = byte(i)
			}
			payload := bytes.Clone(b[UDPHeadroom:])
			p := PutUDP(b, c.src, c.dst)
			h := verify(t, p)
			if h.Source() != c.src || h.Destination() != c.dst || !bytes.Equal(h.UDPPayload(p), payload) {
				t.Errorf("%d bytes from %s: %+v", size, c.src, h)
			}
		}
	}
}

func TestParseTruncatedEverywhere(t *testing.T) {
	for _, whole := range [][]byte{
		tcpPacket(app4, virtual4, SYN, 1, 2, make([]byte, 8), nil),
		tcpPacket(app6, virtual6, SYN, 1, 2, make([]byte, 8), nil),
		PutUDP(make([]byte, UDPHeadroom+5), app4, virtual4),
		PutUDP(make([]byte, UDPHeadroom+5), app6, virtual6),
	} {
		for n := range whole {
			if _, err := Parse(whole[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
			}
		}
		if _, err := Parse(append(bytes.Clone(whole), 1, 2, 3)); err != nil {
			t.Fatal("padding:", err)
		}
	}
}

// split cuts a packet into fragments with the given payload size, a multiple of 8.
func split(b []byte, size int, id uint32) (fragments [][]byte) {
	h, _ := Parse(b)
	body := b[h.Offset:]
	for at := 0; at < len(body); at += size {
		part := body[at:min(at+size, len(body))]
		more := at+size < len(body)
		var f []byte
		if h.Is6 {
			f = append(f, b[:40]...)
			binary.BigEndian.PutUint16(f[4:], uint16(8+len(part)))
			f[6] = fragmentHeader
			word := uint16(at)
			if more {
				word |= 1
			}
			f = append(f, h.Protocol, 0)
			f = binary.BigEndian.AppendUint16(f, word)
			f = binary.BigEndian.AppendUint32(f, id)
		} else {
			f = append(f, b[:h.Offset]...)
			binary.BigEndian.PutUint16(f[2:], uint16(h.Offset+len(part)))
			word := uint16(at / 8)
			if more {
				word |= 0x2000
			}
			binary.BigEndian.PutUint16(f[4:], uint16(id))
			binary.BigEndian.PutUint16(f[6:], word)
			f[10], f[11] = 0, 0
			binary.BigEndian.PutUint16(f[10:], naiveSum(f))
		}
		fragments = append(fragments, append(f, part...))
	}
	return fragments
}

func TestReassembler(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	now := time.Unix(1, 0)
	var r Reassembler
	for id := range uint32(200) {
		src, dst := app4, virtual4
		if id%2 == 1 {
			src, dst = app6, virtual6
		}
		buf := make([]byte, UDPHeadroom+rnd.IntN(60000)+20)
		for i := range buf {
			buf[i] = byte(rnd.Uint32())
		}
		want := bytes.Clone(buf[UDPHeadroom:])
		p := PutUDP(buf, src, dst)
		size := 8 * (1 + rnd.IntN(2000))
		if len(p)/size > maxFragments-2 {
			size = 8192
		}
		fragments := split(p, size, id)
		if len(fragments) > 1 {
			fragments = append(fragments, fragments[0]) // one comes twice
		}
		rnd.Shuffle(len(fragments), func(i, j int) { fragments[i], fragments[j] = fragments[j], fragments[i] })
		var whole []byte
		for _, f := range fragments {
			h, err := Parse(f)
			if err != nil {
				t.Fatal(err)
			}
			if len(fragments) > 2 && !h.Fragment {
				t.Fatal("not a fragment")
			}
			if !h.Fragment {
				whole = f
				break
			}
			if w, ok := r.Add(now, f, &h); ok {
				if whole != nil {
					t.Fatal("two packets")
				}
				whole = w
			}
		}
		if whole == nil {
			t.Fatalf("packet %d never came together", id)
		}
		h := verify(t, whole)
		if !bytes.Equal(h.UDPPayload(whole), want) {
			t.Fatal("the payload differs")
		}
		now = now.Add(patience + time.Second) // the copy of a part that came late is forgotten
	}
}

func TestReassemblerBounds(t *testing.T) {
	now := time.Unix(1, 0)
	var r Reassembler
	p := PutUDP(make([]byte, UDPHeadroom+4000), app4, virtual4)
	for id := range uint32(1000) {
		f := split(p, 1024, id)[0]
		h, _ := Parse(f)
		r.Add(now, f, &h)
	}
	if len(r.datagrams) > maxDatagrams {
		t.Errorf("%d datagrams kept", len(r.datagrams))
	}
	now = now.Add(patience + time.Second)
	fragments := split(p, 1024, 5)
	var ok bool
	for _, f := range fragments {
		h, _ := Parse(f)
		_, ok = r.Add(now, f, &h)
	}
	if !ok {
		t.Error("old ones block new ones for ever")
	}
	// An overlap spoils all of it (RFC 5722).
	f := split(p, 1024, 9)
	h, _ := Parse(f[0])
	r.Add(now, f[0], &h)
	bad := split(p, 2048, 9)[0]
	h, _ = Parse(bad)
	dropped := r.Dropped()
	if _, ok := r.Add(now, bad, &h); ok || r.Dropped() != dropped+1 {
		t.Error("an overlap was accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tcpPacket(app4, virtual4, SYN, 1, 2, make([]byte, 8), []byte("x")))
	f.Add(tcpPacket(app6, virtual6, ACK, 1, 2, nil, []byte("hello")))
	f.Add(PutUDP(make([]byte, UDPHeadroom+5), app4, virtual4))
	for _, p := range split(PutUDP(make([]byte, UDPHeadroom+40), app6, virtual6), 16, 1) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		if h.Length > len(b) || h.Offset > h.Length {
			t.Fatalf("%+v of %d bytes", h, len(b))
		}
		if h.Fragment {
			var r Reassembler
			if whole, ok := r.Add(time.Unix(1, 0), b, &h); ok {
				_, _ = Parse(whole)
			}
			return
		}
		b = b[:h.Length]
		AppendUnreachable(nil, h.Dst, b, &h, HostUnreachable)
		switch h.Protocol {
		case TCP:
			AppendReset(nil, b, &h)
			turn := NewTurn(h.Source(), h.Destination(), h.Destination(), h.Source())
			turn.Apply(b, &h)
			back, err := Parse(b)
			if err != nil || back.Source() != h.Destination() {
				t.Fatal("turned", err)
			}
		case UDP:
			_ = h.UDPPayload(b)
		case ICMP, ICMPv6:
			_ = IsICMPError(b, &h)
			if IsEchoRequest(b, &h) {
				EchoReply(b, &h)
			}
		}
	})
}

func FuzzTurn(f *testing.F) {
	f.Add([]byte("payload"), uint16(80), uint32(1), uint32(2), false)
	f.Add([]byte{0xff, 0xff, 0, 0, 1}, uint16(65535), uint32(0xffffffff), uint32(0), true)
	f.Fuzz(func(t *testing.T, payload []byte, port uint16, a, b uint32, is6 bool) {
		if len(payload) > 60000 {
			return
		}
		src, dst := app4, netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a))), port)
		newSrc, newDst := netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, b))), ^port), own4
		if is6 {
			src, newDst = app6, own6
			x := virtual6.Addr().As16()
			binary.BigEndian.PutUint32(x[8:], a)
			dst = netip.AddrPortFrom(netip.AddrFrom16(x), port)
			binary.BigEndian.PutUint32(x[8:], b)
			newSrc = netip.AddrPortFrom(netip.AddrFrom16(x), ^port)
		}
		p := tcpPacket(src, dst, ACK, a, b, nil, payload)
		h := verify(t, p)
		turn := NewTurn(src, dst, newSrc, newDst)
		turn.Apply(p, &h)
		if got := verify(t, p); got.Source() != newSrc || got.Destination() != newDst {
			t.Fatalf("%+v", got)
		}
	})
}

func BenchmarkTurn(b *testing.B) {
	p := tcpPacket(app4, virtual4, ACK, 1, 2, nil, make([]byte, 60000))
	turn := NewTurn(app4, virtual4, peer4, own4)
	b.ReportAllocs()
	for b.Loop() {
		h, err := Parse(p)
		if err != nil {
			b.Fatal(err)
		}
		turn.Apply(p, &h)
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 65535)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		Checksum(p)
	}
}
