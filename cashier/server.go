package cashier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ServerConfig configures a Server. The zero value is valid.
type ServerConfig struct {
	// RequestRate and RequestBurst bound the requests of one peer, per second and
	// at once. Default 50 and 200.
	RequestRate  float64
	RequestBurst int
	// SubmitRate and SubmitBurst bound its transactions as well: each costs
	// signatures to check and an fsync. Default 5 and 100.
	SubmitRate  float64
	SubmitBurst int
	// AccountRate and AccountBurst bound the transactions that one account signs, from
	// wherever they come. Default 20 and 400.
	AccountRate  float64
	AccountBurst int
	// PrefixRate and PrefixBurst bound the transactions from one part of the Internet,
	// as Prefix tells. Default 50 and 1000.
	PrefixRate  float64
	PrefixBurst int
	// Prefix is the part of the Internet a peer is in, an IPv4 /24 or an IPv6 /48, or
	// empty for one that is not known. Default: by the address, where it has an IP.
	Prefix func(net.Addr) string
	// MaxConns and MaxConnsPerPeer bound connections; more are closed at once.
	// Default 512 and 16.
	MaxConns, MaxConnsPerPeer int
	// Timeout bounds the reading of a request, its handling and its answer, each.
	// Default 15s.
	Timeout time.Duration
	// IdleTimeout closes a connection without a request. Default 2m.
	IdleTimeout time.Duration
	// Peer names the peer at an address, for the limits. Default: the IP address
	// (of IPv6 the /64), or the address up to its port.
	Peer func(net.Addr) string
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

// Validate reports all that is wrong with the configuration.
func (c ServerConfig) Validate() error {
	var errs []error
	for _, f := range []struct {
		name string
		v    float64
	}{
		{"RequestRate", c.RequestRate},
		{"RequestBurst", float64(c.RequestBurst)},
		{"SubmitRate", c.SubmitRate},
		{"SubmitBurst", float64(c.SubmitBurst)},
		{"AccountRate", c.AccountRate},
		{"AccountBurst", float64(c.AccountBurst)},
		{"PrefixRate", c.PrefixRate},
		{"PrefixBurst", float64(c.PrefixBurst)},
		{"MaxConns", float64(c.MaxConns)},
		{"MaxConnsPerPeer", float64(c.MaxConnsPerPeer)},
		{"Timeout", float64(c.Timeout)},
		{"IdleTimeout", float64(c.IdleTimeout)},
	} {
		if f.v < 0 {
			errs = append(errs, fmt.Errorf("cashier: server's %s is negative", f.name))
		}
	}
	return errors.Join(errs...)
}

func (c ServerConfig) withDefaults() ServerConfig {
	set(&c.RequestRate, 50)
	set(&c.RequestBurst, 200)
	set(&c.SubmitRate, 5)
	set(&c.SubmitBurst, 100)
	set(&c.AccountRate, 20)
	set(&c.AccountBurst, 400)
	set(&c.PrefixRate, 50)
	set(&c.PrefixBurst, 1000)
	set(&c.MaxConns, 512)
	set(&c.MaxConnsPerPeer, 16)
	set(&c.Timeout, 15*time.Second)
	set(&c.IdleTimeout, 2*time.Minute)
	if c.Peer == nil {
		c.Peer = peerName
	}
	if c.Prefix == nil {
		c.Prefix = prefixOf
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server answers the ledger's protocol (wire.go) on any listener.
type Server struct {
	ledger  *Ledger
	cfg     ServerConfig
	limiter *limiter // of peers
	// Of what is submitted: by who signed it, and by where it came from.
	accounts, prefixes *limiter
	mux                *http.ServeMux

	requests, limited, refusedConns, failures atomic.Uint64
}

// ServerMetrics is a snapshot of a server's counters.
type ServerMetrics struct {
	// Requests counts all, Limited those held back by a peer's rate, Failures those
	// that met a fault of the ledger's own.
	Requests, Limited, Failures uint64
	// RefusedConns counts connections closed because there were too many.
	RefusedConns uint64
}

// Metrics returns the counters.
func (s *Server) Metrics() ServerMetrics {
	return ServerMetrics{
		Requests: s.requests.Load(), Limited: s.limited.Load(),
		Failures: s.failures.Load(), RefusedConns: s.refusedConns.Load(),
	}
}

// NewServer returns a server of the ledger.
func NewServer(l *Ledger, cfg ServerConfig) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Server{
		ledger: l, cfg: cfg,
		limiter:  newLimiter(cfg.RequestRate, cfg.RequestBurst, cfg.SubmitRate, cfg.SubmitBurst),
		accounts: newLimiter(cfg.AccountRate, cfg.AccountBurst, cfg.AccountRate, cfg.AccountBurst),
		prefixes: newLimiter(cfg.PrefixRate, cfg.PrefixBurst, cfg.PrefixRate, cfg.PrefixBurst),
		mux:      http.NewServeMux(),
	}
	s.mux.HandleFunc("POST "+pathTransactions, s.handle(true, s.submit))
	s.mux.HandleFunc("POST "+pathWitness, s.handle(false, s.witness))
	s.mux.HandleFunc("GET "+pathForks, s.handle(false, s.forks))
	s.mux.HandleFunc("GET "+pathNames+"{name}", s.handle(false, s.lookup))
	s.mux.HandleFunc("GET "+pathAccounts+"{id}/names", s.handle(false, s.names))
	s.mux.HandleFunc("GET "+pathStatus, s.handle(false, s.status))
	s.mux.HandleFunc("GET "+pathCheckpoint, s.handle(false, s.checkpoint))
	s.mux.HandleFunc("GET "+pathGenesis, s.handle(false, s.genesis))
	s.mux.HandleFunc("GET "+pathAccounts+"{id}", s.handle(false, s.account))
	s.mux.HandleFunc("GET "+pathChannels+"{id}", s.handle(false, s.channel))
	s.mux.HandleFunc("GET "+pathAccounts+"{id}/channels", s.handle(false, s.channels))
	s.mux.HandleFunc("GET "+pathAsks+"{service}", s.handle(false, s.asks))
	s.mux.HandleFunc("GET "+pathNodes+"{id}/bindings", s.handle(false, s.bindings))
	s.mux.HandleFunc("GET "+pathInspection, s.handle(false, s.inspection))
	s.mux.HandleFunc("GET "+pathEpochs+"{epoch}", s.handle(false, s.inspectionEpoch))
	s.mux.HandleFunc("GET "+pathEpochs+"{epoch}/reports", s.handle(false, s.reports))
	s.mux.HandleFunc("GET "+pathInspectors+"{id}", s.handle(false, s.inspector))
	s.mux.HandleFunc("GET "+pathScores+"{service}", s.handle(false, s.scores))
	s.mux.HandleFunc("GET "+pathBlocks+"{height}", s.handle(false, s.blocks))
	s.mux.HandleFunc("/", s.handle(false, func(*http.Request) (any, error) {
		return nil, &Rejection{Code: NotFound}
	}))
	return s, nil
}

// shutdownGrace is how long a server that is to end waits for requests being
// answered. A transaction takes milliseconds, and what is cut off is asked again;
// a peer that only holds a connection must not delay the daemon's end.
const shutdownGrace = 2 * time.Second

// Serve answers on l until ctx ends, closes l, waits up to two seconds for
// requests being answered, and returns nil; or the error that ended it earlier.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.cfg.Timeout,
		ReadTimeout:       s.cfg.Timeout,
		WriteTimeout:      2 * s.cfg.Timeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerContextKey{}, origin{s.cfg.Peer(c.RemoteAddr()), s.cfg.Prefix(c.RemoteAddr())})
		},
	}
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-stopped:
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if h.Shutdown(grace) != nil {
			_ = h.Close() // what did not end in time is cut off
		}
	})
	err := h.Serve(&limitedListener{Listener: l, server: s, slots: make(chan struct{}, s.cfg.MaxConns)})
	close(stopped)
	wg.Wait()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve ledger: %w", err)
}

// ServeHTTP implements http.Handler, for a server of the caller's own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

type peerContextKey struct{}

// origin is where a request came from.
type origin struct{ peer, prefix string }

func (s *Server) handle(submit bool, f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, ok := r.Context().Value(peerContextKey{}).(origin)
		if !ok {
			from.peer = r.RemoteAddr
		}
		s.requests.Add(1)
		now := time.Now()
		if !s.limiter.allow(from.peer, submit, now) || submit && from.prefix != "" && !s.prefixes.allow(from.prefix, false, now) {
			s.limited.Add(1)
			s.answer(w, nil, &Rejection{Code: RateLimited, RetryAfter: 1})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, MaxBatchTransaction)
		v, err := f(r.WithContext(ctx))
		s.answer(w, v, err)
	}
}

func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		rejection := asRejection(err)
		if rejection.Code == Internal {
			s.failures.Add(1)
			s.cfg.Logger.Error("ledger request", "err", err)
		}
		v, status = rejection, httpStatus(rejection.Code)
	}
	body, ok := v.([]byte) // signed bytes go out as they are
	if !ok {
		body = mustEncode(v)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the peer is gone; there is nobody to tell
}

func (s *Server) submit(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, reject(TooLarge, "at most %d bytes", MaxBatchTransaction)
		}
		return nil, reject(Malformed, "body not received")
	}
	receipt, err := s.ledger.submitAs(r.Context(), body, func(tx *Transaction) error {
		if !s.accounts.allow(string(tx.Account[:]), false, time.Now()) {
			s.limited.Add(1)
			return &Rejection{Code: RateLimited, RetryAfter: 1, Account: tx.Account}
		}
		return nil
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil, &Rejection{Code: OverCapacity, RetryAfter: 1}
	}
	return receipt, err
}

func (s *Server) lookup(r *http.Request) (any, error) {
	n := name.Name(r.PathValue("name"))
	since, err := sinceOf(r)
	if err != nil {
		return nil, err
	}
	if rejection := checkName(n); rejection != nil {
		return nil, rejection
	}
	var reply nameReply
	reply.Proved, err = s.ledger.prove(r.Context(), since, nameKeys(n), func(state rows, c Checkpoint) error {
		a, err := s.ledger.lookup(state, n, c.Height, time.Unix(c.Time, 0))
		reply.Record = a.Signed
		return err
	})
	return reply, err
}

func (s *Server) names(r *http.Request) (any, error) {
	owner, err := identity.ParseAccountID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	after := name.Name(r.URL.Query().Get("after"))
	if after != "" {
		if rejection := checkName(after); rejection != nil {
			return nil, rejection
		}
	}
	names, err := s.ledger.Names(r.Context(), owner, after, maxNamesPage)
	return namesReply{names}, err
}

func (s *Server) status(r *http.Request) (any, error) {
	st, err := s.ledger.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeStatus, st)
}

func (s *Server) blocks(r *http.Request) (any, error) {
	from, err := strconv.ParseUint(r.PathValue("height"), 10, 64)
	if err != nil {
		return nil, reject(Malformed, "height")
	}
	blocks, err := s.ledger.Blocks(r.Context(), from, maxBlocksPage, maxBlocksSize)
	return blocksReply{blocks}, err
}

// limitedListener closes connections beyond the limits as they come.
type limitedListener struct {
	net.Listener
	server *Server
	slots  chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := l.server.cfg.Peer(c.RemoteAddr())
		select {
		case l.slots <- struct{}{}:
		default:
			l.server.refusedConns.Add(1)
			_ = c.Close()
			continue
		}
		if !l.server.limiter.connect(peer, l.server.cfg.MaxConnsPerPeer) {
			<-l.slots
			l.server.refusedConns.Add(1)
			_ = c.Close()
			continue
		}
		return &limitedConn{Conn: c, release: sync.OnceFunc(func() {
			l.server.limiter.disconnect(peer)
			<-l.slots
		})}, nil
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite passes the half-close through where there is one: net/http uses it so
// that an answer to a request it did not read whole is not lost to a reset.
func (c *limitedConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func set[T float64 | int | time.Duration](p *T, otherwise T) {
	if *p == 0 {
		*p = otherwise
	}
}
