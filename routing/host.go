package routing

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
)

// Connections kept to DHT peers. A routing table of some hundred nodes needs no
// more than this, and each connection costs about 100 KB.
const (
	lowConnections  = 48
	highConnections = 96
)

// newHost builds the libp2p host by hand from swarm, QUIC transport and basic
// host: the root package of go-libp2p would bring WebTransport and WebRTC along.
//
// The caller closes the host, then the sockets.
func newHost(cfg Config, gater *gater, roaming *roaming, addresses func() []netip.AddrPort) (_ *basichost.BasicHost, sockets *quicreuse.ConnManager, err error) {
	undo := make([]func() error, 0, 3)
	defer func() {
		for i := len(undo) - 1; i >= 0 && err != nil; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()

	key, err := crypto.UnmarshalEd25519PrivateKey(cfg.Key.Ed25519())
	if err != nil {
		return nil, nil, err
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo, peers.Close)
	if err := errors.Join(peers.AddPrivKey(self, key), peers.AddPubKey(self, key.GetPublic())); err != nil {
		return nil, nil, err
	}
	limits, err := newLimits()
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo, limits.Close)
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(self, peers, bus,
		swarm.WithConnectionGater(gater),
		swarm.WithResourceManager(limits),
		swarm.WithDialTimeout(cfg.RequestTimeout),
		swarm.WithDialTimeoutLocal(cfg.RequestTimeout),
		// All addresses at once: after a move the first ones known may be stale.
		swarm.WithDialRanker(swarm.NoDelayDialRanker),
		// The black-hole detectors would stop dialling after a network outage.
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo[:0], sw.Close) // it closes the peerstore and the limits too

	resetKey, err := derive(cfg.Key, "scn dht stateless reset")
	if err != nil {
		return nil, nil, err
	}
	tokenKey, err := derive(cfg.Key, "scn dht token")
	if err != nil {
		return nil, nil, err
	}
	var options []quicreuse.Option
	if cfg.silence != nil {
		options = append(options, quicreuse.OverrideListenUDP(func(network string, address *net.UDPAddr) (net.PacketConn, error) {
			c, err := net.ListenUDP(network, address)
			return &silent{PacketConn: c, silence: cfg.silence}, err
		}))
	}
	sockets, err = quicreuse.NewConnManager(quic.StatelessResetKey(resetKey), quic.TokenGeneratorKey(tokenKey), options...)
	if err != nil {
		return nil, nil, err
	}
	undo = append(undo, sockets.Close)
	transport, err := libp2pquic.NewTransport(key, sockets, nil, gater, limits)
	if err != nil {
		return nil, nil, err
	}
	roaming.Transport = transport
	if err := sw.AddTransport(roaming); err != nil {
		return nil, nil, err
	}
	undo = append(undo[:0], sockets.Close, sw.Close)

	connections, err := connmgr.NewConnManager(lowConnections, highConnections, connmgr.WithGracePeriod(30*time.Second))
	if err != nil {
		return nil, nil, err
	}
	host, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus:    bus,
		ConnManager: connections,
		UserAgent:   "scn",
		// Our own addresses, whatever libp2p believes the interfaces have: it looks
		// at most once a minute, and knows nothing of our exclusions.
		AddrsFactory:            func([]ma.Multiaddr) []ma.Multiaddr { return dhtAddrs(addresses()) },
		DisableSignedPeerRecord: true,
		NegotiationTimeout:      cfg.RequestTimeout,
	})
	if err != nil {
		return nil, nil, errors.Join(err, connections.Close())
	}
	undo = append(undo[:0], sockets.Close, host.Close)
	host.Start()
	if err := listen(sw, listenAddrs(cfg.Listen)); err != nil {
		return nil, nil, fmt.Errorf("listen on UDP port %d for the DHT (the one after the SAL's): %w", cfg.Listen.Port()+1, err)
	}
	return host, sockets, nil
}

// listen binds all addresses. A host without IPv6, or without IPv4, is served as it
// is; a port that is taken is an error on either.
func listen(sw *swarm.Swarm, addresses []ma.Multiaddr) error {
	var errs []error
	for _, a := range addresses {
		if err := sw.AddListenAddr(a); err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				return err
			}
			errs = append(errs, err)
		}
	}
	if len(errs) < len(addresses) {
		return nil
	}
	return errors.Join(errs...)
}

// derive makes a key of its own for one purpose from the node's key, so that a
// restarted node still speaks for its old connections.
func derive(key identity.PrivateKey, purpose string) ([32]byte, error) {
	b, err := hkdf.Key(sha256.New, key.Ed25519().Seed(), nil, purpose, 32)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(b), nil
}

// listenAddrs are the DHT's for a SAL listening on listen.
func listenAddrs(listen netip.AddrPort) []ma.Multiaddr {
	if !listen.Addr().IsUnspecified() {
		return dhtAddrs([]netip.AddrPort{listen})
	}
	return dhtAddrs([]netip.AddrPort{
		netip.AddrPortFrom(netip.IPv4Unspecified(), listen.Port()),
		netip.AddrPortFrom(netip.IPv6Unspecified(), listen.Port()),
	})
}

// dhtAddrs are the addresses of the DHT beside the SAL's: the UDP port after it.
func dhtAddrs(addresses []netip.AddrPort) []ma.Multiaddr {
	out := make([]ma.Multiaddr, 0, len(addresses))
	for _, a := range addresses {
		family := "ip6"
		if a.Addr().Is4() {
			family = "ip4"
		}
		m, err := ma.NewMultiaddr(fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, a.Addr(), a.Port()+1))
		if err == nil {
			out = append(out, m)
		}
	}
	return out
}

// salAddr is the inverse of dhtAddrs. It is false for an address of another kind.
func salAddr(m ma.Multiaddr) (netip.AddrPort, bool) {
	protocols := m.Protocols()
	if len(protocols) < 3 || protocols[1].Code != ma.P_UDP || protocols[2].Code != ma.P_QUIC_V1 {
		return netip.AddrPort{}, false
	}
	ip, err := manet.ToIP(m)
	if err != nil {
		return netip.AddrPort{}, false
	}
	text, err := m.ValueForProtocol(ma.P_UDP)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port < 2 {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port-1)), ok
}

// peerOf is a node's libp2p identity. Ed25519 public keys always have one.
func peerOf(node identity.NodeID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(node[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}

// nodeOf is the node behind a libp2p identity, if it is an Ed25519 key.
func nodeOf(id peer.ID) (identity.NodeID, bool) {
	key, err := id.ExtractPublicKey()
	if err != nil || key.Type() != crypto.Ed25519 {
		return identity.NodeID{}, false
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != identity.Size {
		return identity.NodeID{}, false
	}
	return identity.NodeID(raw), true
}

// silent is a socket that can be made to lose everything, for tests of nodes that
// die without a word.
type silent struct {
	net.PacketConn
	silence func() bool
}

// ReadFrom implements net.PacketConn.
func (s *silent) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, a, err := s.PacketConn.ReadFrom(b)
		if err != nil || !s.silence() {
			return n, a, err
		}
	}
}

// WriteTo implements net.PacketConn.
func (s *silent) WriteTo(b []byte, a net.Addr) (int, error) {
	if s.silence() {
		return len(b), nil
	}
	return s.PacketConn.WriteTo(b, a)
}
