package delegate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Records is what a node does for others. What it returns is told in their terms:
// ErrNotFound, ErrRefused, ErrBusy; anything else is ErrUnavailable to them.
type Records interface {
	// Find yields the records under a key, better ones as they come. The last
	// element is an error when the lookup did not end well.
	Find(ctx context.Context, key string) iter.Seq2[[]byte, error]
	// Store publishes a record, after it has checked it.
	Store(ctx context.Context, key string, value []byte) error
}

// ServerConfig configures a Server. The zero value is valid.
type ServerConfig struct {
	// Rate and Burst bound the requests of one peer, per second and at once.
	// Default 10 and 100: opening a page with many names must pass, and each
	// request may cost a lookup in the DHT.
	Rate  float64
	Burst int
	// MaxOpen and MaxOpenPerPeer bound the requests being answered. Default 256
	// and 32.
	MaxOpen, MaxOpenPerPeer int
	// Timeout bounds one request from its first byte to its answer's last.
	// Default 15s: longer than a lookup or a publication takes.
	Timeout time.Duration
	// Peer names the peer of a connection, for the limits. Default: its address.
	Peer func(net.Addr) string
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

// Validate reports every fault of the configuration.
func (c ServerConfig) Validate() error {
	var errs []error
	for name, v := range map[string]float64{
		"Rate": c.Rate, "Burst": float64(c.Burst), "MaxOpen": float64(c.MaxOpen),
		"MaxOpenPerPeer": float64(c.MaxOpenPerPeer), "Timeout": float64(c.Timeout),
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("delegate: %s is negative", name))
		}
	}
	return errors.Join(errs...)
}

func (c ServerConfig) withDefaults() ServerConfig {
	set(&c.Rate, 10)
	set(&c.Burst, 100)
	set(&c.MaxOpen, 256)
	set(&c.MaxOpenPerPeer, 32)
	set(&c.Timeout, 15*time.Second)
	if c.Peer == nil {
		c.Peer = func(a net.Addr) string { return a.String() }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server answers requests.
type Server struct {
	records Records
	cfg     ServerConfig
	limiter *limiter

	open                        atomic.Int64
	gets, puts, refused, failed atomic.Uint64
	limited, malformed          atomic.Uint64
}

// ServerMetrics is a snapshot of a server's counters.
type ServerMetrics struct {
	// Open are requests being answered now.
	Open int
	// Gets and Puts count requests, Refused those whose key or record was not
	// accepted, Failed those that came to nothing for another reason.
	Gets, Puts, Refused, Failed uint64
	// Limited counts requests not answered because there were too many, Malformed
	// those that were none.
	Limited, Malformed uint64
}

// NewServer returns a server of the records.
func NewServer(records Records, cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Server{records: records, cfg: cfg, limiter: newLimiter(cfg.Rate, cfg.Burst)}, nil
}

// Metrics returns the counters.
func (s *Server) Metrics() ServerMetrics {
	return ServerMetrics{
		Open: int(s.open.Load()), Gets: s.gets.Load(), Puts: s.puts.Load(), Refused: s.refused.Load(),
		Failed: s.failed.Load(), Limited: s.limited.Load(), Malformed: s.malformed.Load(),
	}
}

// Serve answers the sessions of l until ctx ends or l is closed, closes l and waits
// for the answers under way. It returns nil after a clean stop.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var answers sync.WaitGroup
	defer answers.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		session, err := l.Accept()
		switch {
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = session.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("delegate: accept: %w", err)
		}
		if s.open.Add(1) > int64(s.cfg.MaxOpen) {
			s.open.Add(-1)
			s.limited.Add(1)
			_ = session.Close()
			continue
		}
		answers.Go(func() {
			defer s.open.Add(-1)
			s.answer(ctx, session)
		})
	}
}

// answer takes one request.
func (s *Server) answer(ctx context.Context, session net.Conn) {
	defer session.Close()
	deadline := time.Now().Add(s.cfg.Timeout)
	_ = session.SetDeadline(deadline)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()
	allowance, ok := s.limiter.enter(s.cfg.Peer(session.RemoteAddr()), s.cfg.MaxOpenPerPeer, time.Now())
	if !ok {
		s.limited.Add(1)
		finish(session, busy)
		return
	}
	defer s.limiter.leave(allowance)
	r, err := readRequest(session)
	if err != nil {
		s.malformed.Add(1)
		if errors.Is(err, ErrProtocol) {
			finish(session, malformed)
		}
		return
	}
	var end status
	if r.operation == put {
		s.puts.Add(1)
		end = s.statusOf(s.records.Store(ctx, r.key, r.value))
	} else {
		s.gets.Add(1)
		var gone bool
		if end, gone = s.find(ctx, session, r.key); gone {
			return
		}
	}
	finish(session, end)
}

// finish ends an answer. Whoever left meanwhile misses nothing.
func finish(session net.Conn, s status) {
	var b [2]byte
	_, _ = session.Write(appendEnd(b[:0], s))
}

// find sends the values of a lookup as they come. gone says that the asker left.
func (s *Server) find(ctx context.Context, session net.Conn, key string) (end status, gone bool) {
	sent := 0
	var message []byte
	for value, err := range s.records.Find(ctx, key) {
		if err != nil {
			return s.statusOf(err), false
		}
		if sent == maxValues || len(value) > MaxValue {
			break
		}
		message = appendValue(message[:0], value)
		if _, err := session.Write(message); err != nil {
			return 0, true
		}
		sent++
	}
	return done, false
}

// statusOf tells an error in the asker's terms.
func (s *Server) statusOf(err error) status {
	switch {
	case err == nil:
		return done
	case errors.Is(err, ErrNotFound):
		return notFound
	case errors.Is(err, ErrRefused):
		s.refused.Add(1)
		return refused
	case errors.Is(err, ErrBusy):
		s.limited.Add(1)
		return busy
	}
	s.failed.Add(1)
	s.cfg.Logger.Debug("request failed", "err", err)
	return unavailable
}
