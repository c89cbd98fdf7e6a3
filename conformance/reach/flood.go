package reach

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/relay"
)

// Strangers is how many addresses a flood comes from.
const Strangers = 1000

// flood sends what strangers could think of to one address, from many spoofed
// ones: datagrams to be relayed under tokens they guess, for the nodes they know
// of; the first packets of real handshakes; path messages nobody sealed; noise.
type flood struct {
	fd      int
	packets [][]byte // without IP and UDP headers
	wg      sync.WaitGroup
	stop    chan struct{}
	sent    int // read after wg
}

// newFlood prepares the packets on a host. The nodes are those a stranger would
// ask to be forwarded to.
func newFlood(ctx context.Context, h *netns.Host, nodes ...identity.NodeID) (*flood, error) {
	f := &flood{fd: -1, stop: make(chan struct{})}
	hands, err := handshakes(ctx, h, 64)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(5, 5))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for i := range 256 {
		header := relay.Header{Type: relay.TypeForward, Token: relay.Token(noise(7)), Node: relay.Prefix(nodes[i%len(nodes)][:8])}
		path := noise(80)
		path[0] = 0x01
		f.packets = append(f.packets, header.Append(nil), append(header.Append(nil), noise(1200)...),
			hands[i%len(hands)], path, noise(1+r.IntN(1200)))
	}
	h.Do(func() { f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW) })
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	return f, nil
}

// start sends so many packets a second to an address, in bursts of a
// millisecond's, until end.
func (f *flood) start(to netip.AddrPort, perSecond int) {
	f.stop = make(chan struct{})
	f.sent = 0
	f.wg.Go(func() { // ends when end closes stop
		r := rand.New(rand.NewPCG(6, 6))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		target := &unix.SockaddrInet4{Addr: to.Addr().As4()}
		var buf []byte
		for {
			select {
			case <-f.stop:
				return
			case now := <-tick.C:
				due := int(now.Sub(began).Seconds() * float64(perSecond))
				for burst := 0; f.sent < due && burst < perSecond/100; burst++ {
					buf = spoofed(buf[:0], r, to, f.packets[r.IntN(len(f.packets))])
					_ = unix.Sendto(f.fd, buf, 0, target) // a full queue drops
					f.sent++
				}
			}
		}
	})
}

// end stops the flood and returns how many packets it had.
func (f *flood) end() int {
	close(f.stop)
	f.wg.Wait()
	return f.sent
}

func (f *flood) close() error { return unix.Close(f.fd) }

// spoofed appends an IPv4 packet of one of the strangers.
func spoofed(b []byte, r *rand.Rand, to netip.AddrPort, payload []byte) []byte {
	n := r.IntN(Strangers)
	target := to.Addr().As4()
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0) // the kernel fills in the checksum
	b = append(b, 51, 250, byte(n>>8), byte(n))
	b = append(b, target[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(1024+n))
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(b, 0, 0) // no UDP checksum, as IPv4 allows
	return append(b, payload...)
}

// handshakes returns the first packets of real handshakes: what nodes that know
// only an address send there.
func handshakes(ctx context.Context, h *netns.Host, count int) ([][]byte, error) {
	sink, err := h.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer sink.Close()
	key, err := identity.GenerateKey(crand.Reader)
	if err != nil {
		return nil, err
	}
	var node *sal.Node
	at := netip.MustParseAddrPort(sink.LocalAddr().String())
	h.Do(func() { node, err = sal.Open(sal.Config{Key: key, Resolver: deaf(at), AllowLoopback: true}) })
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() { // ends with ctx
			peer, err := identity.GenerateKey(crand.Reader)
			if err != nil {
				return
			}
			if c, err := node.DialNode(ctx, peer.Node(), uint16(1+i)); err == nil {
				_ = c.Close()
			}
		})
	}
	var first [][]byte
	buf := make([]byte, 2048)
	for len(first) < count && ctx.Err() == nil {
		_ = sink.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, _, err := sink.ReadFrom(buf)
		if err == nil {
			first = append(first, append([]byte(nil), buf[:n]...))
		} else if !errors.Is(err, net.ErrClosed) {
			continue
		}
	}
	cancel()
	wg.Wait()
	err = node.Close()
	if len(first) == 0 {
		err = errors.Join(err, errors.New("reach: no handshake began"))
	}
	return first, err
}

// deaf is a resolver that knows one address for everybody.
type deaf netip.AddrPort

// Resolve implements sal.Resolver.
func (d deaf) Resolve(context.Context, identity.ServiceID) iter.Seq2[[]record.Candidate, error] {
	return func(func([]record.Candidate, error) bool) {}
}

// ResolveNode implements sal.Resolver.
func (d deaf) ResolveNode(_ context.Context, node identity.NodeID) iter.Seq2[record.Candidate, error] {
	return func(yield func(record.Candidate, error) bool) {
		yield(record.Candidate{Node: node, Locators: []netip.AddrPort{netip.AddrPort(d)}, Expires: time.Now().Add(time.Hour)}, nil)
	}
}
