package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // net/http and go-socks5 take no other
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/armon/go-socks5"
	"golang.org/x/sync/errgroup"

	"scn.alt/scn/daemon/control"
)

// ProxyConfig configures RunProxy.
type ProxyConfig struct {
	// SOCKS and HTTP are the TCP addresses to listen on; empty means none.
	SOCKS, HTTP string
	// Dial opens a session to a service by name. Required.
	Dial func(ctx context.Context, name string, port uint16) (net.Conn, error)
	// Ready is told the addresses once both listen. Optional.
	Ready func(socks, http net.Addr)
}

// RunProxy offers a SOCKS5 (RFC 1928) and an HTTP proxy (RFC 9110 §9.3.6 CONNECT,
// and plain requests) to overlay names until ctx ends. Names are resolved inside;
// IP addresses are refused, since this is no way to the Internet.
func RunProxy(ctx context.Context, cfg ProxyConfig) error {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, portText, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if net.ParseIP(host) != nil {
			return nil, fmt.Errorf("%s: overlay names only; let the proxy resolve names (socks5h://)", host)
		}
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", portText, err)
		}
		return cfg.Dial(ctx, host, uint16(port))
	}
	var lc net.ListenConfig
	var socksAddr, httpAddr net.Addr
	group, ctx := errgroup.WithContext(ctx)
	serve := func(address string, addr *net.Addr, run func(net.Listener) error) error {
		if address == "" {
			return nil
		}
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		*addr = l.Addr()
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		group.Go(func() error {
			defer stop()
			if err := run(l); ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
		return nil
	}
	socks, err := socks5.New(&socks5.Config{
		Dial: dial, Resolver: insideResolver{}, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return err
	}
	err = errors.Join(
		serve(cfg.SOCKS, &socksAddr, func(l net.Listener) error { return serveSOCKS(ctx, socks, l) }),
		serve(cfg.HTTP, &httpAddr, func(l net.Listener) error { return serveHTTPProxy(ctx, l, dial) }))
	if err != nil {
		return errors.Join(err, group.Wait())
	}
	if cfg.Ready != nil {
		cfg.Ready(socksAddr, httpAddr)
	}
	return group.Wait()
}

// insideResolver leaves names as they are, so that Dial gets them.
type insideResolver struct{}

func (insideResolver) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// serveSOCKS owns a goroutine per client and ends them all with ctx.
func serveSOCKS(ctx context.Context, s *socks5.Server, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			_ = s.ServeConn(c) // it closes c and has answered the client
		})
	}
}

func serveHTTPProxy(ctx context.Context, l net.Listener, dial func(ctx context.Context, network, address string) (net.Conn, error)) error {
	plain := &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: &http.Transport{DialContext: dial, DisableCompression: true, IdleConnTimeout: time.Minute},
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "scn proxy: "+err.Error(), proxyStatus(err))
		},
	}
	server := &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodConnect:
				connect(w, r, dial)
			case r.URL.Host == "":
				http.Error(w, "scn proxy: this is a proxy; set it as http_proxy", http.StatusBadRequest)
			default:
				plain.ServeHTTP(w, r)
			}
		}),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return server.Serve(l)
}

func connect(w http.ResponseWriter, r *http.Request, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	remote, err := dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, "scn proxy: "+err.Error(), proxyStatus(err))
		return
	}
	defer remote.Close()
	local, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer local.Close()
	if _, err := io.WriteString(local, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// What the client sent ahead of our answer belongs to the tunnel.
	if n := buffered.Reader.Buffered(); n > 0 {
		early, _ := buffered.Peek(n)
		if _, err := remote.Write(early); err != nil {
			return
		}
	}
	control.Splice(remote, local)
}

func proxyStatus(err error) int {
	var e *control.Error
	if errors.As(err, &e) && e.Code == control.Unreachable {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
