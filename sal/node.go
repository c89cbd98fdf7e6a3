package sal

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
)

// Node is one node's service access layer: it dials and serves sessions by
// service ID over one UDP port. Its methods may be called concurrently.
//
// Dial, DialPacket, DialNode and Ping return errors for which errors.Is holds
// with one of the sentinels of this package, or with the context's error.
type Node struct {
	cfg       Config // constant, as all of this block
	id        identity.NodeID
	instance  [16]byte
	carrier   carrier
	transport *quic.Transport
	listener  *quic.Listener
	tls       *tls.Config
	quic      *quic.Config
	ctx       context.Context // ends when Close begins
	cancel    context.CancelFunc

	services serviceTable
	budget   budget
	clock    clockOffsets
	pings    pingTable
	loops    loopTable
	lone     loneTable
	declined declinedTable
	relays   *relays
	relay    *relayServer // nil unless this node is a relay
	guard    handshakeGuard
	counters counters
	wg       sync.WaitGroup

	mu     sync.Mutex // guards below
	closed bool
	peers  map[identity.NodeID]*peer
	links  map[*link]struct{}
}

// Open binds the UDP port and starts serving.
func Open(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	n := &Node{
		cfg: cfg, id: cfg.Key.Node(), quic: quicConfig(cfg),
		peers: make(map[identity.NodeID]*peer), links: make(map[*link]struct{}),
		guard: handshakeGuard{retryAfter: int64(cfg.retryAfter)},
	}
	n.budget.limit, n.budget.walk, n.budget.now = cfg.MemoryBudget, n.heldBytes, time.Now
	_, _ = rand.Read(n.instance[:]) // never fails
	cert, err := certificate(cfg.Key)
	if err != nil {
		return nil, err
	}
	n.tls = baseTLS(cert, cfg.Network)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.relays = newRelays(n)
	if cfg.Relay != nil {
		if err := n.openRelay(); err != nil {
			n.cancel()
			return nil, err
		}
	}
	if err := n.listen(); err != nil {
		n.cancel()
		return nil, fmt.Errorf("sal: open: %w", err)
	}
	n.wg.Go(n.acceptLoop)
	n.wg.Go(n.janitor)
	n.wg.Go(n.relays.loop)
	if n.relay != nil {
		n.wg.Go(n.relay.loop)
	}
	return n, nil
}

// listen opens the carrier and QUIC on it.
func (n *Node) listen() error {
	reset, err := deriveKey(n.cfg.Key, resetLabel)
	if err != nil {
		return err
	}
	token, err := deriveKey(n.cfg.Key, tokenLabel)
	if err != nil {
		return err
	}
	n.carrier, err = n.cfg.openCarrier(n.cfg, carrierCallbacks{
		resolve: n.resolvePeer, locatorsChanged: n.locatorsChanged, dead: n.pathDead,
		relaysTold: n.relaysTold, relayWord: n.relayWord, relayEcho: n.relays.echoed,
	})
	if err != nil {
		return err
	}
	n.transport = &quic.Transport{
		Conn:                             n.carrier.packetConn(),
		ConnectionIDGenerator:            n.carrier.connectionIDs(),
		StatelessResetKey:                (*quic.StatelessResetKey)(&reset),
		TokenGeneratorKey:                (*quic.TokenGeneratorKey)(&token),
		VerifySourceAddress:              n.guard.verify,
		ConnContext:                      n.guard.connContext,
		DisableVersionNegotiationPackets: true,
	}
	n.listener, err = n.transport.Listen(n.tls, n.quic)
	if err != nil {
		return errors.Join(err, n.transport.Close(), n.carrier.close())
	}
	return nil
}

// Close ends every session and connection and waits for everything the node
// started, handlers included: their context ends first. What sessions closed just
// before still have to deliver gets a moment to leave.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	err := n.listener.Close()
	var closing sync.WaitGroup
	for _, l := range n.allLinks() {
		closing.Go(func() {
			l.flush()
			l.close(closeShutdown)
		})
	}
	closing.Wait()
	n.loops.abort()
	err = errors.Join(err, n.transport.Close(), n.carrier.close())
	n.wg.Wait()
	return err
}

// spawn runs f in a goroutine that Close waits for; it reports false after Close.
func (n *Node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.wg.Go(f)
	return true
}

// whileOpen calls f unless the node is closed.
func (n *Node) whileOpen(f func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	return f()
}

// ID returns the node's ID.
func (n *Node) ID() identity.NodeID { return n.id }

// Handle serves every port of a service that has no listener of its own. It
// replaces the handler of the service, if there is one; sessions that are open
// stay with the old one.
func (n *Node) Handle(service identity.ServiceID, h Handler) { n.services.handle(service, h) }

// Unhandle ends what Handle began. Open sessions go on.
func (n *Node) Unhandle(service identity.ServiceID) { n.services.unhandle(service) }

// Kick makes the node look at its paths now: the machine woke up, or the network
// is known to have changed.
func (n *Node) Kick() { n.carrier.kick() }

// Readmit asks Config.Admit again about every connected peer, and disconnects
// those it refuses now.
func (n *Node) Readmit() {
	for _, l := range n.allLinks() {
		if err := n.cfg.Admit(l.peer); err != nil {
			n.counters.notAdmitted.Add(1)
			l.close(closeNotAdmitted)
		}
	}
	if n.relay != nil {
		n.relay.endIf(func(s *servedNode) bool { return n.cfg.Admit(s.anchor.peer) != nil })
	}
}

// ClockOffset returns how far the clocks of authenticated peers are ahead of this
// host's (the median), and how many peers that is taken from.
func (n *Node) ClockOffset() (time.Duration, int) { return n.clock.median() }

// Locators returns the addresses under which this node may be found, best first.
func (n *Node) Locators() []netip.AddrPort { return n.withAdvertised(n.carrier.locators()) }

func (n *Node) withAdvertised(found []netip.AddrPort) []netip.AddrPort {
	all := slices.Clone(n.cfg.Advertise)
	for _, a := range found {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// locatorsChanged is called by the carrier.
func (n *Node) locatorsChanged(found []netip.AddrPort) {
	n.relays.moved()
	if f := n.cfg.LocatorsChanged; f != nil {
		f(n.withAdvertised(found))
	}
}

// acceptLoop takes the connections that others dial.
func (n *Node) acceptLoop() {
	for {
		conn, err := n.listener.Accept(n.ctx)
		if err != nil {
			return
		}
		n.guard.done(conn)
		if !n.spawn(func() { n.accept(conn) }) {
			_ = conn.CloseWithError(closeShutdown, "")
		}
	}
}

// accept takes one connection whose handshake is complete.
func (n *Node) accept(conn *quic.Conn) {
	peer, err := peerID(conn.ConnectionState().TLS)
	if err != nil || peer == n.id {
		_ = conn.CloseWithError(closeProtocol, "")
		return
	}
	if err := n.cfg.Admit(peer); err != nil {
		n.counters.notAdmitted.Add(1)
		n.cfg.Logger.Debug("peer not admitted", "peer", peer.Short(), "err", err)
		_ = conn.CloseWithError(closeNotAdmitted, "")
		return
	}
	assoc, err := n.carrier.accepted(conn.RemoteAddr(), peer)
	if err != nil {
		_ = conn.CloseWithError(closeOverCapacity, "")
		return
	}
	if err := n.startLink(newLink(n, peer, false, conn, assoc)); err != nil {
		n.cfg.Logger.Debug("connection not taken", "peer", peer.Short(), "err", err)
	}
}

// opError wraps an error that has no session yet.
func opError(op string, addr net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "scn", Addr: addr, Err: err}
}
