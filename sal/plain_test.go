package sal

import (
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal/relay"
	"scn.alt/scn/sal/underlay"
)

// plainCarrier is a carrier without mobility: QUIC over a plain UDP socket.
type plainCarrier struct {
	conn *net.UDPConn
}

func openPlain(cfg Config, _ carrierCallbacks) (carrier, error) {
	listen := cfg.Listen
	if !listen.IsValid() {
		listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return nil, err
	}
	return &plainCarrier{conn}, nil
}

func (c *plainCarrier) packetConn() net.PacketConn                { return c.conn }
func (c *plainCarrier) connectionIDs() quic.ConnectionIDGenerator { return nil }
func (c *plainCarrier) kick()                                     {}
func (c *plainCarrier) metrics() underlay.Metrics                 { return underlay.Metrics{} }
func (c *plainCarrier) nat() underlay.NATKind                     { return underlay.NATUnknown }
func (c *plainCarrier) translated() bool                          { return false }
func (c *plainCarrier) setRelays([]identity.NodeID)               {}
func (c *plainCarrier) close() error                              { return c.conn.Close() }

func (c *plainCarrier) locators() []netip.AddrPort {
	return []netip.AddrPort{c.conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (c *plainCarrier) dial(_ identity.NodeID, locators []netip.AddrPort) (association, error) {
	return &plainAssociation{addr: net.UDPAddrFromAddrPort(locators[0])}, nil
}

func (c *plainCarrier) accepted(stranger net.Addr, _ identity.NodeID) (association, error) {
	return &plainAssociation{addr: stranger.(*net.UDPAddr)}, nil
}

type plainAssociation struct {
	addr     *net.UDPAddr
	sessions atomic.Int64
}

func (a *plainAssociation) Addr() *net.UDPAddr               { return a.addr }
func (a *plainAssociation) Bind([]byte, bool) error          { return nil }
func (a *plainAssociation) SetLocators([]netip.AddrPort)     {}
func (a *plainAssociation) SetSessions(n int)                { a.sessions.Store(int64(n)) }
func (a *plainAssociation) GrantRelay() (relay.Token, error) { return relay.Token{}, relay.ErrFull }
func (a *plainAssociation) RevokeRelay()                     {}
func (a *plainAssociation) UseRelay(relay.Token) error       { return nil }
func (a *plainAssociation) DropRelay()                       {}
func (a *plainAssociation) Rest()                            {}
func (a *plainAssociation) ProbeRelay(uint64)                {}
func (a *plainAssociation) Close() error                     { return nil }
func (a *plainAssociation) Info() underlay.Info {
	return underlay.Info{Remote: a.addr.AddrPort()}
}
