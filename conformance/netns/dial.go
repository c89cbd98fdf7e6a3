package netns

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Dial connects from the host. The address is resolved with the host's own DNS
// servers unless it is numeric.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses := []string{host}
	if net.ParseIP(host) == nil {
		family := "ip"
		if strings.HasSuffix(network, "4") || strings.HasSuffix(network, "6") {
			family += network[len(network)-1:]
		}
		ips, err := h.Resolver().LookupIP(ctx, family, host)
		if err != nil {
			return nil, err
		}
		addresses = addresses[:0]
		for _, ip := range ips {
			addresses = append(addresses, ip.String())
		}
	}
	var errs []error
	for _, a := range addresses {
		var dialer net.Dialer
		// A numeric address is dialled on the calling goroutine, and so in the
		// host's namespace.
		h.Do(func() { conn, err = dialer.DialContext(ctx, network, net.JoinHostPort(a, port)) })
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Listen listens on the host for a stream network.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	h.Do(func() { l, err = net.Listen(network, address) })
	return l, err
}

// ListenPacket listens on the host for a packet network.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	h.Do(func() { c, err = net.ListenPacket(network, address) })
	return c, err
}

// Resolver returns a resolver that asks the servers of the host's
// /etc/resolv.conf, read anew for each question.
func (h *Host) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		servers := h.Resolvers()
		if len(servers) == 0 {
			return nil, errors.New("netns: no name server in the resolv.conf of " + h.name)
		}
		return h.Dial(ctx, network, net.JoinHostPort(servers[0], "53"))
	}}
}

// Resolvers returns the name servers of the host's /etc/resolv.conf.
func (h *Host) Resolvers() []string {
	var text []byte
	h.Do(func() { text, _ = os.ReadFile("/etc/resolv.conf") })
	var servers []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			servers = append(servers, fields[1])
		}
	}
	return servers
}

// HTTP returns a client whose connections start at the host.
func (h *Host) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.Dial, IdleConnTimeout: time.Minute}}
}

// HTTPUnix returns a client that speaks to a unix socket on the host, whatever
// the URL's host is.
func (h *Host) HTTPUnix(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		h.Do(func() {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "unix", socket)
		})
		return conn, err
	}}}
}

// ReadFile reads a file as the host sees it.
func (h *Host) ReadFile(name string) (text []byte, err error) {
	h.Do(func() { text, err = os.ReadFile(filepath.Clean(name)) })
	return text, err
}
