package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Names of systemd-resolved on the bus (org.freedesktop.resolve1(5)).
const (
	resolvedName    = "org.freedesktop.resolve1"
	resolvedPath    = dbus.ObjectPath("/org/freedesktop/resolve1")
	resolvedManager = "org.freedesktop.resolve1.Manager"
	resolvedLink    = "org.freedesktop.resolve1.Link"
	properties      = "org.freedesktop.DBus.Properties"
)

// callTimeout bounds one call: resolved answers in milliseconds or is stuck.
const callTimeout = 2 * time.Second

// resolvedBackend routes our names to our link's server.
type resolvedBackend struct {
	cfg   Config
	run   string
	conn  *dbus.Conn
	index int
	last  []netip.AddrPort
}

// Structures of the calls.
type (
	linkServer struct { // iay
		Family  int32
		Address []byte
	}
	linkServerEx struct { // iayqs
		Family  int32
		Address []byte
		Port    uint16
		Name    string
	}
	linkDomain struct { // sb
		Domain  string
		Routing bool
	}
	managerServer struct { // iiay
		Index   int32
		Family  int32
		Address []byte
	}
)

// usesResolved reports whether the host asks systemd-resolved: it runs, and its
// stub is what the settings file names. The file's header says nothing: it stays
// behind when resolved is replaced, and is missing where the file was copied.
func usesResolved(ctx context.Context, cfg Config) bool {
	if cfg.Interface == "" {
		return false
	}
	b, err := readConf(cfg.Path)
	if err != nil {
		return false
	}
	servers := parseConf(b).servers
	if len(servers) == 0 || slices.ContainsFunc(servers, func(s netip.AddrPort) bool { return !isStub(s) }) {
		return false
	}
	conn, err := connect(ctx, cfg.Bus)
	if err != nil {
		return false
	}
	defer conn.Close()
	return owned(ctx, conn)
}

// connect opens a connection of our own to the bus; bus is its address, or empty
// for the system bus.
func connect(ctx context.Context, bus string) (*dbus.Conn, error) {
	var conn *dbus.Conn
	var err error
	// Not WithContext: that would end the connection with ctx. The sockets are
	// local, and the hello is bounded by the bus.
	if bus == "" {
		conn, err = dbus.ConnectSystemBus()
	} else {
		conn, err = dbus.Connect(bus)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: D-Bus: %w", ErrUnavailable, err)
	}
	if ctx.Err() != nil {
		conn.Close()
		return nil, ctx.Err()
	}
	return conn, nil
}

// owned reports whether resolved is on the bus, without starting it.
func owned(ctx context.Context, conn *dbus.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var has bool
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, resolvedName).Store(&has)
	return err == nil && has
}

func (r *resolvedBackend) mode() Mode { return Resolved }

func (r *resolvedBackend) state() state {
	return state{Mode: Resolved, Bus: r.cfg.Bus, Interface: r.cfg.Interface, Index: r.index}
}

func (r *resolvedBackend) snapshot(ctx context.Context) ([]netip.AddrPort, state, error) {
	if err := r.reconnect(ctx); err != nil {
		return nil, state{}, err
	}
	return r.upstream(ctx), r.state(), nil
}

// reconnect makes sure of a connection, of resolved and of our link.
func (r *resolvedBackend) reconnect(ctx context.Context) error {
	if r.conn != nil && !r.conn.Connected() {
		r.conn.Close()
		r.conn = nil
	}
	if r.conn == nil {
		conn, err := connect(ctx, r.cfg.Bus)
		if err != nil {
			return err
		}
		r.conn = conn
	}
	if !owned(ctx, r.conn) {
		return fmt.Errorf("%w: systemd-resolved does not run", ErrUnavailable)
	}
	link, err := net.InterfaceByName(r.cfg.Interface)
	if err != nil {
		return fmt.Errorf("%s: %w", r.cfg.Interface, err)
	}
	r.index = link.Index
	return nil
}

func (r *resolvedBackend) call(ctx context.Context, method string, args ...any) error {
	return callManager(ctx, r.conn, method, args...)
}

func callManager(ctx context.Context, conn *dbus.Conn, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := conn.Object(resolvedName, resolvedPath).CallWithContext(ctx, resolvedManager+"."+method, dbus.FlagNoAutoStart, args...).Err
	if err != nil {
		return fmt.Errorf("resolved: %s: %w", method, err)
	}
	return nil
}

func (r *resolvedBackend) apply(ctx context.Context) error {
	if err := r.reconnect(ctx); err != nil {
		return err
	}
	index := int32(r.index)
	if err := r.setServers(ctx, index); err != nil {
		return err
	}
	var domains []linkDomain
	for _, d := range r.cfg.Domains {
		domains = append(domains, linkDomain{d, true})
	}
	if err := r.call(ctx, "SetLinkDomains", index, domains); err != nil {
		return errors.Join(err, r.call(ctx, "RevertLink", index))
	}
	// The rest is refinement that old versions lack: SetLinkDefaultRoute came with
	// systemd 240. Routing domains alone keep other names away from a link.
	for _, c := range []struct {
		method string
		arg    any
	}{
		{"SetLinkDefaultRoute", false},
		{"SetLinkLLMNR", "no"},
		{"SetLinkMulticastDNS", "no"},
		{"SetLinkDNSSEC", "no"}, // the zone's namesake on the Internet is signed
		{"SetLinkDNSOverTLS", "no"},
	} {
		if err := r.call(ctx, c.method, index, c.arg); err != nil {
			r.cfg.Logger.Debug("resolved refuses a refinement", "err", err)
		}
	}
	if err := r.call(ctx, "FlushCaches"); err != nil {
		r.cfg.Logger.Debug("resolved keeps its cache", "err", err)
	}
	return nil
}

func (r *resolvedBackend) setServers(ctx context.Context, index int32) error {
	plain := make([]linkServer, 0, len(r.cfg.Servers))
	withPort := make([]linkServerEx, 0, len(r.cfg.Servers))
	ports := false
	for _, s := range r.cfg.Servers {
		addr := s.Addr().Unmap()
		family := int32(unix.AF_INET6)
		if addr.Is4() {
			family = unix.AF_INET
		}
		plain = append(plain, linkServer{family, addr.AsSlice()})
		withPort = append(withPort, linkServerEx{family, addr.AsSlice(), s.Port(), ""})
		ports = ports || s.Port() != 53
	}
	if ports {
		return r.call(ctx, "SetLinkDNSEx", index, withPort) // since systemd 246
	}
	return r.call(ctx, "SetLinkDNS", index, plain)
}

// property reads a property of resolved or of a link.
func (r *resolvedBackend) property(ctx context.Context, path dbus.ObjectPath, of, name string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v dbus.Variant
	err := r.conn.Object(resolvedName, path).CallWithContext(ctx, properties+".Get", dbus.FlagNoAutoStart, of, name).Store(&v)
	if err == nil {
		err = v.Store(to)
	}
	if err != nil {
		return fmt.Errorf("resolved: %s: %w", name, err)
	}
	return nil
}

// upstream returns the servers resolved uses for other links and globally.
func (r *resolvedBackend) upstream(ctx context.Context) []netip.AddrPort {
	var servers []netip.AddrPort
	for _, name := range []string{"DNS", "FallbackDNS"} { // the latter without any of the former
		var found []managerServer
		if err := r.property(ctx, resolvedPath, resolvedManager, name, &found); err != nil {
			r.cfg.Logger.Debug("resolved does not tell its servers", "err", err)
			continue
		}
		for _, s := range found {
			addr, ok := netip.AddrFromSlice(s.Address)
			if !ok || int(s.Index) == r.index {
				continue
			}
			if addr.IsLinkLocalUnicast() && s.Index > 0 {
				if link, err := net.InterfaceByIndex(int(s.Index)); err == nil {
					addr = addr.WithZone(link.Name)
				}
			}
			if p := netip.AddrPortFrom(addr.Unmap(), 53); !isStub(p) && !slices.Contains(servers, p) {
				servers = append(servers, p)
			}
		}
		if servers = withoutOwn(servers, r.cfg.Servers); len(servers) > 0 {
			break
		}
	}
	if len(servers) > 0 {
		r.last = servers
	}
	return r.last
}

func (r *resolvedBackend) verify(ctx context.Context) (bool, []netip.AddrPort, state, error) {
	if err := r.reconnect(ctx); err != nil {
		return false, r.last, r.state(), err
	}
	upstream := r.upstream(ctx)
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var path dbus.ObjectPath
	err := r.conn.Object(resolvedName, resolvedPath).CallWithContext(callCtx, resolvedManager+".GetLink", dbus.FlagNoAutoStart, int32(r.index)).Store(&path)
	if err != nil {
		return false, upstream, r.state(), nil // resolved knows nothing of our link
	}
	var servers []linkServer
	var domains []linkDomain
	if err := errors.Join(
		r.property(ctx, path, resolvedLink, "DNS", &servers),
		r.property(ctx, path, resolvedLink, "Domains", &domains),
	); err != nil {
		return false, upstream, r.state(), err
	}
	ours := len(servers) == len(r.cfg.Servers)
	for _, s := range r.cfg.Servers {
		ours = ours && slices.ContainsFunc(servers, func(l linkServer) bool {
			addr, _ := netip.AddrFromSlice(l.Address)
			return addr.Unmap() == s.Addr().Unmap()
		})
	}
	for _, d := range r.cfg.Domains {
		ours = ours && slices.Contains(domains, linkDomain{d, true})
	}
	return ours, upstream, r.state(), nil
}

// watch listens on a connection of its own for resolved coming back and for its
// servers changing.
func (r *resolvedBackend) watch(ctx context.Context, changed func()) error {
	conn, err := connect(ctx, r.cfg.Bus)
	if err != nil {
		return err
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{
			dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, resolvedName),
		},
		{
			dbus.WithMatchSender(resolvedName), dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"),
		},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("D-Bus: %w", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-signals:
			if !ok {
				return errors.New("D-Bus: connection lost")
			}
			changed()
		}
	}
}

func (r *resolvedBackend) close() error {
	if r.conn == nil {
		return nil
	}
	return r.conn.Close()
}

// restoreResolved takes our settings off the link, if it still exists.
func restoreResolved(ctx context.Context, st state) error {
	link, err := net.InterfaceByName(st.Interface)
	if err != nil || link.Index != st.Index {
		return nil // resolved forgot it with the link
	}
	conn, err := connect(ctx, st.Bus)
	if err != nil || !owned(ctx, conn) {
		if err == nil {
			err = conn.Close()
		}
		return errorUnless(err, ErrUnavailable) // resolved is gone, and what it knew with it
	}
	defer conn.Close()
	err = callManager(ctx, conn, "RevertLink", int32(st.Index))
	var derr dbus.Error
	if errors.As(err, &derr) && derr.Name == "org.freedesktop.resolve1.NoSuchLink" {
		return nil
	}
	if err != nil {
		return err
	}
	_ = callManager(ctx, conn, "FlushCaches") // ours may linger for their TTL, no longer
	return nil
}

// errorUnless returns err, or nil if it is the one given.
func errorUnless(err, unless error) error {
	if errors.Is(err, unless) {
		return nil
	}
	return err
}
