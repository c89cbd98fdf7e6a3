package target

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/splice"
)

// ErrNoTarget rejects a session to a port that has no target. It is an
// ECONNREFUSED, as of a host where nobody listens.
var ErrNoTarget error = noTarget{}

type noTarget struct{}

func (noTarget) Error() string   { return "no target on this port" }
func (noTarget) Is(e error) bool { return e == syscall.ECONNREFUSED }

// Config configures a Provider. The zero value is valid.
type Config struct {
	// ProxyProtocol sends a PROXY protocol v2 header to stream targets.
	ProxyProtocol bool
	// Network fixes the virtual addresses in the PROXY header; without one they are 0.0.0.0.
	Network identity.NetworkID
	// DialTimeout bounds the dial of a target. Default 10s.
	DialTimeout time.Duration
	// PacketIdle ends a datagram session that carried nothing for so long. Default 2m.
	PacketIdle time.Duration
	// Buffers lends the large buffers of streams; share one among all Providers of a
	// process. Default: 64 MiB of its own.
	Buffers *splice.Buffers
	// Dial replaces the dial, so that a test or an embedding program serves without a
	// socket. Default: net.Dialer.DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger receives failures of targets. Default: discard.
	Logger *slog.Logger
}

// Incoming is one session a peer opened, not yet answered. Exactly one of Accept,
// AcceptPacket and Reject is called, once.
type Incoming struct {
	Peer     identity.NodeID
	Service  identity.ServiceID
	Port     uint16
	Protocol record.Protocol
	// Accept answers a stream, AcceptPacket a datagram session.
	Accept       func() (net.Conn, error)
	AcceptPacket func() (net.Conn, error)
	// Reject refuses with what errors.Is finds in the error: ECONNREFUSED,
	// EHOSTUNREACH and so on.
	Reject func(error)
}

// Provider serves the sessions of one service.
type Provider struct {
	cfg     Config
	targets map[targetKey]Target

	streams, packets, rejected, active atomic.Int64
	bytesIn, bytesOut                  atomic.Int64

	mu      sync.Mutex
	failing map[targetKey]bool // targets whose last dial failed: logged once per change
}

type targetKey struct {
	port     uint16
	protocol record.Protocol
}

// New makes a Provider of the targets, as ParseAll returns them.
func New(targets []Target, cfg Config) (*Provider, error) {
	cfg = cfg.withDefaults()
	if cfg.DialTimeout < 0 || cfg.PacketIdle < 0 {
		return nil, errors.New("tun: a target's timeout is negative")
	}
	p := &Provider{cfg: cfg, targets: make(map[targetKey]Target, len(targets)), failing: make(map[targetKey]bool)}
	for _, t := range targets {
		k := targetKey{t.Port, t.Protocol()}
		if other, ok := p.targets[k]; ok {
			return nil, fmt.Errorf("target %q: %w: %s port %d is %q already", t, ErrTarget, k.protocol, k.port, other)
		}
		p.targets[k] = t
	}
	return p, nil
}

// Handle answers one session and serves it until it ends or ctx is done. The error
// says why it ended otherwise than cleanly; the peer was told already.
func (p *Provider) Handle(ctx context.Context, in Incoming) error {
	key := targetKey{in.Port, in.Protocol}
	t, ok := p.targets[key]
	if !ok {
		p.rejected.Add(1)
		in.Reject(fmt.Errorf("%s port %d: %w", in.Protocol, in.Port, ErrNoTarget))
		return ErrNoTarget
	}
	up, err := p.dial(ctx, t, in)
	p.noteDial(key, t, err)
	if err != nil {
		p.rejected.Add(1)
		in.Reject(err)
		return err
	}
	accept := in.Accept
	if in.Protocol == record.UDP {
		accept = in.AcceptPacket
	}
	session, err := accept()
	if err != nil {
		splice.Reset(up)
		return fmt.Errorf("accept session from %s: %w", in.Peer.Short(), err)
	}
	p.active.Add(1)
	defer p.active.Add(-1)
	if in.Protocol == record.UDP {
		p.packets.Add(1)
		return p.relayPackets(ctx, session, up)
	}
	p.streams.Add(1)
	res, err := splice.Both(ctx, session, up, p.cfg.Buffers)
	p.bytesIn.Add(res.AToB)
	p.bytesOut.Add(res.BToA)
	return err
}

// dial connects to the target and sends the PROXY header. The header is part of the
// dial: a target that resets at once is as good as refusing.
func (p *Provider) dial(ctx context.Context, t Target, in Incoming) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	up, err := p.cfg.Dial(ctx, t.Network, t.Address)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t, truthful(err))
	}
	if t.Protocol() == record.UDP {
		growBuffer(up)
	}
	if p.cfg.ProxyProtocol && t.Protocol() == record.TCP {
		if err := writeProxyHeader(ctx, up, p.cfg.Network, in); err != nil {
			splice.Reset(up)
			return nil, fmt.Errorf("target %s: proxy header: %w", t, err)
		}
	}
	return up, nil
}

// truthful makes a missing unix socket what it is to a caller: nobody listens.
func truthful(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("%w (%w)", syscall.ECONNREFUSED, err)
	}
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		// Our own lack of rights is not the caller's.
		return fmt.Errorf("%w: this node may not open it (%v)", syscall.ECONNREFUSED, err) //nolint:errorlint // EACCES must not show
	}
	return err
}

func (p *Provider) noteDial(key targetKey, t Target, err error) {
	p.mu.Lock()
	was := p.failing[key]
	p.failing[key] = err != nil
	p.mu.Unlock()
	switch {
	case err != nil && !was:
		p.cfg.Logger.Warn("target does not answer", "target", t.String(), "err", err)
	case err == nil && was:
		p.cfg.Logger.Info("target answers again", "target", t.String())
	}
}

// Metrics is a snapshot of a Provider's counters.
type Metrics struct {
	// Streams and Packets are sessions accepted, Rejected those refused, Active those open.
	Streams, Packets, Rejected, Active int64
	// BytesIn came from callers, BytesOut from the targets.
	BytesIn, BytesOut int64
}

// Metrics returns the counters. Bytes of a stream count when it has ended.
func (p *Provider) Metrics() Metrics {
	return Metrics{
		Streams: p.streams.Load(), Packets: p.packets.Load(), Rejected: p.rejected.Load(), Active: p.active.Load(),
		BytesIn: p.bytesIn.Load(), BytesOut: p.bytesOut.Load(),
	}
}

func (c Config) withDefaults() Config {
	if c.DialTimeout == 0 {
		c.DialTimeout = 10 * time.Second
	}
	if c.PacketIdle == 0 {
		c.PacketIdle = 2 * time.Minute
	}
	if c.Buffers == nil {
		c.Buffers = splice.NewBuffers(64 << 20)
	}
	if c.Dial == nil {
		// Go's own probes every 15 s would keep a host with idle sessions awake.
		c.Dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4,
		}}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
