package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Server takes tunnels to one node's UDP port.
type Server struct {
	cfg      ServerConfig
	guard    *guard
	listener net.Listener
	upgrader websocket.Upgrader
	pool     *sync.Pool
	counters counters

	mu      sync.Mutex // guards below
	closed  bool
	tunnels sync.WaitGroup // Add under mu while not closed
}

// Listen binds the TCP port. The caller runs Run and ends with Close.
func Listen(cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), pool: newPool()}
	cert, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("tunnel: certificate: %w", err)
	}
	config := net.ListenConfig{Control: tune}
	l, err := config.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	s.guard = &guard{
		Listener: l, most: s.cfg.MaxConns, mostPerSource: s.cfg.MaxConnsPerSource,
		counters: &s.counters, sources: map[netip.Prefix]int{},
	}
	s.listener = tls.NewListener(s.guard, &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
	})
	s.upgrader = websocket.Upgrader{
		HandshakeTimeout: s.cfg.timing.dial, Subprotocols: []string{subprotocol},
		ReadBufferSize: 4096, WriteBufferSize: 4096,
	}
	return s, nil
}

// Addr returns the TCP address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Metrics returns a snapshot.
func (s *Server) Metrics() Metrics {
	m := s.counters.snapshot()
	m.Conns = s.guard.open()
	return m
}

// Run serves until ctx ends or the listener is closed, ends the tunnels and waits
// for them. It returns nil after a clean stop.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: s.cfg.timing.dial,
		WriteTimeout: s.cfg.timing.dial, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // strangers' faults
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	err := server.Serve(s.listener)
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	stopped := closed || ctx.Err() != nil
	cancel()
	_ = server.Close()
	s.tunnels.Wait()
	if stopped || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("tunnel: serve: %w", err)
}

// Close closes the listener, so that Run ends. It is idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// serve answers one request: a tunnel, or nothing here. A browser's page may ask
// for a WebSocket anywhere; what has an origin is none of ours.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path || !websocket.IsWebSocketUpgrade(r) || r.Header.Get("Origin") != "" ||
		len(websocket.Subprotocols(r)) != 1 || websocket.Subprotocols(r)[0] != subprotocol {
		s.counters.refusedRequests.Add(1)
		w.Header().Set("Connection", "close")
		http.NotFound(w, r)
		return
	}
	if !s.enter() {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	defer s.tunnels.Done()
	udp, err := dialNode(s.cfg.Target)
	if err != nil {
		s.cfg.Logger.Warn("no socket for a tunnel", "err", err)
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = udp.Close() }()
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.counters.refusedRequests.Add(1)
		return
	}
	p := newPort(udp, s.pool, &s.counters)
	var reader sync.WaitGroup
	reader.Go(p.read)
	remote := ws.RemoteAddr().String()
	s.cfg.Logger.Debug("tunnel opened", "remote", remote, "local", udp.LocalAddr().String())
	err = p.carry(r.Context(), ws, s.cfg.timing, s.cfg.IdleTimeout)
	_ = udp.Close()
	reader.Wait()
	s.cfg.Logger.Debug("tunnel closed", "remote", remote, "err", err)
}

// enter makes Run wait for one more tunnel, unless it is ending.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tunnels.Add(1)
	return true
}

// dialNode opens a loopback socket connected to the node's UDP port. The kernel
// then drops what anybody else sends there.
func dialNode(node netip.AddrPort) (*net.UDPConn, error) {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	if node.Addr().Unmap().Is6() {
		local = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	}
	return net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(node))
}
