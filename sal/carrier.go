package sal

import (
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
	"scn.alt/scn/sal/underlay"
)

// carrier is what this package needs of the socket below QUIC: underlay.Socket,
// or a plain UDP socket in tests.
type carrier interface {
	packetConn() net.PacketConn
	connectionIDs() quic.ConnectionIDGenerator
	// dial makes the association of a connection about to be dialled.
	dial(node identity.NodeID, locators []netip.AddrPort) (association, error)
	// accepted makes the association of an accepted connection.
	accepted(stranger net.Addr, node identity.NodeID) (association, error)
	locators() []netip.AddrPort
	// setRelays tells this node's home relays to all peers.
	setRelays([]identity.NodeID)
	// nat says what is between this node and others, translated whether there is
	// anything, by the word of one.
	nat() underlay.NATKind
	translated() bool
	kick()
	metrics() underlay.Metrics
	close() error
}

// association is one peer's place in the carrier, as underlay.Association.
type association interface {
	Addr() *net.UDPAddr
	Bind(secret []byte, initiator bool) error
	SetLocators([]netip.AddrPort)
	SetSessions(open int)
	Info() underlay.Info
	// GrantRelay lets the peer have datagrams forwarded, RevokeRelay not any more.
	GrantRelay() (relay.Token, error)
	RevokeRelay()
	// UseRelay makes the peer a way to others, DropRelay not any more.
	UseRelay(relay.Token) error
	DropRelay()
	// ProbeRelay sends something to this node itself through the peer. It comes back
	// by carrierCallbacks.relayEcho.
	ProbeRelay(serial uint64)
	// Rest says that the connection has ended while the association stays.
	Rest()
	Close() error
}

// carrierCallbacks are what the carrier tells the node. They must return soon.
type carrierCallbacks struct {
	resolve         func(identity.NodeID)
	locatorsChanged func([]netip.AddrPort)
	dead            func(association)
	// relaysTold gives the home relays of a peer, relayWord what a relay says to this
	// node, relayEcho the relay a probe came back from.
	relaysTold func(peer identity.NodeID, relays []identity.NodeID)
	relayWord  func(relay identity.NodeID, word underlay.RelayWord, about relay.Prefix)
	relayEcho  func(relay identity.NodeID, serial uint64)
}

type underlayCarrier struct{ socket *underlay.Socket }

func openUnderlay(cfg Config, callbacks carrierCallbacks) (carrier, error) {
	var limits *relay.Limits
	var relayKey [32]byte
	if cfg.Relay != nil {
		limits = &cfg.Relay.Limits
		var err error
		if relayKey, err = deriveKey(cfg.Key, relayLabel); err != nil {
			return nil, err
		}
	}
	socket, err := underlay.Open(underlay.Config{
		Listen:          cfg.Listen,
		IgnoreInterface: cfg.IgnoreInterface,
		LinkPolicy:      cfg.LinkPolicy,
		Duplicate:       cfg.Duplicate,
		Resumed:         cfg.Resumed,
		AllowLoopback:   cfg.AllowLoopback,
		Resolve:         callbacks.resolve,
		LocatorsChanged: callbacks.locatorsChanged,
		Dead:            func(a *underlay.Association) { callbacks.dead(a) },
		Node:            cfg.Key.Node(),
		Relay:           limits,
		RelayKey:        [16]byte(relayKey[:]),
		LoseRelayed:     cfg.loseRelayed,
		RelaysTold:      callbacks.relaysTold,
		RelayWord:       callbacks.relayWord,
		RelayEcho:       callbacks.relayEcho,
		Logger:          cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return underlayCarrier{socket}, nil
}

func (c underlayCarrier) packetConn() net.PacketConn { return c.socket }

func (c underlayCarrier) connectionIDs() quic.ConnectionIDGenerator {
	return c.socket.ConnectionIDGenerator()
}

func (c underlayCarrier) dial(node identity.NodeID, locators []netip.AddrPort) (association, error) {
	a, err := c.socket.Dial(node, locators)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (c underlayCarrier) accepted(stranger net.Addr, node identity.NodeID) (association, error) {
	a, err := c.socket.Accepted(stranger, node)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (c underlayCarrier) nat() underlay.NATKind            { return c.socket.NAT() }
func (c underlayCarrier) translated() bool                 { return c.socket.Translated() }
func (c underlayCarrier) setRelays(list []identity.NodeID) { c.socket.SetRelays(list) }
func (c underlayCarrier) locators() []netip.AddrPort       { return c.socket.Locators() }
func (c underlayCarrier) kick()                            { c.socket.Kick() }
func (c underlayCarrier) metrics() underlay.Metrics        { return c.socket.Metrics() }
func (c underlayCarrier) close() error                     { return c.socket.Close() }
