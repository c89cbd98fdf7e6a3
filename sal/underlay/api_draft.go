// Package underlay is the socket below QUIC that hides moves.
package underlay

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"scn.alt/scn/routing/identity"
)

var (
	// ErrClosed is returned after Close of the socket or of the association.
	ErrClosed = errors.New("underlay: closed")
	// ErrBound is returned by a second Bind of one association.
	ErrBound = errors.New("underlay: already bound")
	// ErrCapacity is returned when MaxAssociations are in use.
	ErrCapacity = errors.New("underlay: too many associations")
)

// Socket is one UDP port for IPv4 and IPv6. Give it to quic.Transport as Conn.
type Socket struct{ cfg Config }

// Open binds the port and starts watching this host's addresses.
func Open(cfg Config) (*Socket, error) { return &Socket{cfg: cfg}, cfg.Validate() }

// Close closes the socket and every association, and waits for its goroutines.
func (s *Socket) Close() error { return nil }

// LocalAddr is a made-up address (never unspecified) with the real port.
func (s *Socket) LocalAddr() net.Addr { return nil }

// Port is the UDP port of the socket.
func (s *Socket) Port() uint16 { return 0 }

// ConnectionIDGenerator goes into quic.Transport; packets are matched by it.
func (s *Socket) ConnectionIDGenerator() quic.ConnectionIDGenerator { return nil }

// Locators are the usable addresses of this host with the port of the socket.
func (s *Socket) Locators() []netip.AddrPort { return nil }

// Kick makes every association probe its paths now.
func (s *Socket) Kick() {}

// Metrics is a snapshot of the counters.
func (s *Socket) Metrics() Metrics { return Metrics{} }

// Dial makes the association of a connection about to be dialled to Addr().
// At most 8 locators are used, best first.
func (s *Socket) Dial(node identity.NodeID, locators []netip.AddrPort) (*Association, error) {
	return nil, ErrCapacity
}

// Accepted makes the association of an accepted connection; stranger is its
// RemoteAddr. Call it as soon as the handshake is done, then Bind.
func (s *Socket) Accepted(stranger net.Addr, node identity.NodeID) (*Association, error) {
	return nil, ErrCapacity
}

// SyscallConn and the methods below are for quic-go.
func (s *Socket) SyscallConn() (syscall.RawConn, error)               { return nil, nil }
func (s *Socket) SetReadBuffer(int) error                             { return nil }
func (s *Socket) SetWriteBuffer(int) error                            { return nil }
func (s *Socket) SetDeadline(time.Time) error                         { return nil }
func (s *Socket) SetReadDeadline(time.Time) error                     { return nil }
func (s *Socket) SetWriteDeadline(time.Time) error                    { return nil }
func (s *Socket) ReadFrom([]byte) (int, net.Addr, error)              { return 0, nil, nil }
func (s *Socket) WriteTo([]byte, net.Addr) (int, error)               { return 0, nil }
func (s *Socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) { return 0, nil }
func (s *Socket) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	return
}
func (s *Socket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) { return }

// Association is one peer connection: one QUIC connection, one made-up address,
// one path machine.
type Association struct{}

// Addr is the made-up address: dial it (client), and expect it as the
// connection's RemoteAddr soon after Bind (server).
func (a *Association) Addr() *net.UDPAddr { return nil }

// Node is the peer.
func (a *Association) Node() identity.NodeID { return identity.NodeID{} }

// Bind starts the path machine: call it once the handshake is done on this
// side. Secret is ExportKeyingMaterial(ExporterLabel, nil, SecretSize).
func (a *Association) Bind(secret []byte, initiator bool) error { return nil }

// SetLocators replaces the addresses under which the peer may be found.
func (a *Association) SetLocators([]netip.AddrPort) {}

// SetSessions tells how many sessions are open: it decides keep-alive and patience.
func (a *Association) SetSessions(open int) {}

// Info is a snapshot.
func (a *Association) Info() Info { return Info{} }

// Close forgets the association. Call it after closing the QUIC connection.
// Idempotent, does not wait.
func (a *Association) Close() error { return nil }

// What goes to tls.ConnectionState.ExportKeyingMaterial for Bind.
const (
	ExporterLabel = "EXPORTER-scn-path-v1"
	SecretSize    = 64
)

// Info describes an association at one moment.
type Info struct {
	Node          identity.NodeID
	Local, Remote netip.AddrPort // the path in use; invalid before one is known
	RTT           time.Duration  // of the path in use; 0 if not measured
	MTU           int            // largest UDP payload the path carries whole
	Moves         uint64         // changes of path since Bind
	LastMove      time.Time
	LastGap       time.Duration // between last data before and first data after the last move
	LastReceived  time.Time
	BytesSent     uint64
	BytesReceived uint64
	Bound         bool
}

// Metrics are the counters of a Socket.
type Metrics struct {
	Associations int
}

// IgnoreVirtual is the default of Config.IgnoreInterface.
func IgnoreVirtual(name string) bool { return false }
