package target

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"scn.alt/scn/routing/record"
)

// ErrTarget is returned for a text that is no target.
var ErrTarget = errors.New("not a target")

// Target is where a port of a service really listens.
type Target struct {
	// Port is the service's port, 1 to 65535.
	Port uint16
	// Network is "tcp", "udp" or "unix".
	Network string
	// Address is host:port, or the path of a unix socket.
	Address string
}

// Protocol returns how the service is reached: UDP for datagrams, TCP for streams.
func (t Target) Protocol() record.Protocol {
	if t.Network == "udp" {
		return record.UDP
	}
	return record.TCP
}

// String returns the text Parse reads.
func (t Target) String() string { return fmt.Sprintf("%d=%s://%s", t.Port, t.Network, t.Address) }

// Parse reads [PORT=]tcp://HOST:PORT, [PORT=]udp://HOST:PORT or PORT=unix:///PATH.
func Parse(s string) (Target, error) {
	t, err := parse(s)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w: %w", clip(s), ErrTarget, err)
	}
	return t, nil
}

// ParseAll reads a service's targets. It reports every fault, joined, including two
// targets for one port and protocol.
func ParseAll(texts []string) ([]Target, error) {
	type key struct {
		port     uint16
		protocol record.Protocol
	}
	var targets []Target
	var errs []error
	seen := make(map[key]string)
	if len(texts) == 0 {
		errs = append(errs, fmt.Errorf("%w: at least one is needed, as 80=tcp://127.0.0.1:8080", ErrTarget))
	}
	for _, s := range texts {
		t, err := Parse(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k := key{t.Port, t.Protocol()}
		if other, ok := seen[k]; ok {
			errs = append(errs, fmt.Errorf("target %q: %w: %s port %d is %q already", s, ErrTarget, k.protocol, k.port, other))
			continue
		}
		seen[k] = s
		targets = append(targets, t)
	}
	return targets, errors.Join(errs...)
}

func parse(s string) (Target, error) {
	var t Target
	if len(s) > 1024 {
		return t, errors.New("longer than 1024 bytes")
	}
	rest := s
	if head, tail, ok := strings.Cut(s, "="); ok && !strings.Contains(head, "://") {
		port, err := parsePort(head)
		if err != nil {
			return t, fmt.Errorf("service port: %w", err)
		}
		t.Port, rest = port, tail
	}
	network, address, ok := strings.Cut(rest, "://")
	if !ok {
		return t, errors.New("no scheme; write tcp://HOST:PORT, udp://HOST:PORT or PORT=unix:///PATH")
	}
	t.Network, t.Address = network, address
	switch network {
	case "tcp", "udp":
		return t, t.parseHostPort()
	case "unix":
		return t, t.checkPath()
	}
	return t, fmt.Errorf("unknown scheme %q, must be tcp, udp or unix", network)
}

func (t *Target) parseHostPort() error {
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return fmt.Errorf("write HOST:PORT, IPv6 in brackets: %w", err)
	}
	n, err := parsePort(port)
	if err != nil {
		return fmt.Errorf("target port: %w", err)
	}
	if host == "" {
		return errors.New("the host is missing, as 127.0.0.1")
	}
	if strings.ContainsAny(host, "/?#@ \t\n\x00") {
		return fmt.Errorf("host %q has a character no host has; a target is just HOST:PORT", host)
	}
	if a, err := netip.ParseAddr(host); err == nil && (a.IsUnspecified() || a.IsMulticast()) {
		return fmt.Errorf("%s is an address to listen on, not to dial", a)
	}
	t.Address = net.JoinHostPort(host, strconv.Itoa(int(n)))
	if t.Port == 0 {
		t.Port = n
	}
	return nil
}

func (t *Target) checkPath() error {
	switch {
	case t.Port == 0:
		return errors.New("a unix target needs the service's port: PORT=unix:///PATH")
	case !strings.HasPrefix(t.Address, "/"):
		return fmt.Errorf("path %q is not absolute; write unix:///PATH with three slashes", t.Address)
	case len(t.Address) > 107 || strings.ContainsRune(t.Address, 0):
		return errors.New("a unix socket's path has at most 107 bytes, none of them zero")
	}
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("%q is no port, must be 1 to 65535", clip(s))
	}
	return uint16(n), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
