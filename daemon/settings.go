package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/relay"
)

// Settings are one node's settings: the TOML file in its directory, over which
// flags are laid. An unknown key is an error, and Validate reports every fault at
// once, before anything is touched.
type Settings struct {
	// Listen is the UDP address of the node's sessions; the DHT uses the port
	// after it. Default [::]:47700.
	Listen string `toml:"listen" help:"UDP address of the sessions; the DHT uses the next port"`
	// Advertise are addresses others reach this node at, where they differ from
	// the host's own (port forwarding). Default: the host's own.
	Advertise []string `toml:"advertise" help:"addresses others reach this node at, if not the host's own"`
	// Mobile nodes move often: they are clients of the DHT and store nothing.
	Mobile bool `toml:"mobile" help:"this host moves often: store nothing for others"`
	// Region is a free label in the node's record, at most 32 bytes.
	Region string `toml:"region" help:"free label in the node's record, such as eu-central"`
	// AllowLoopback lets loopback addresses be published and dialled (tests).
	AllowLoopback bool `toml:"allow_loopback" help:"publish and dial loopback addresses (tests on one host)"`
	// IgnoreInterfaces are patterns of links that carry no sessions, besides
	// containers', VPNs' and the daemon's own.
	IgnoreInterfaces []string `toml:"ignore_interfaces" help:"patterns of links that must not carry sessions"`
	// RenewNames renews the names of this node's account before their leases end, and
	// pays the rent. Default true.
	RenewNames bool `toml:"renew_names" help:"renew this node's names before their leases end, and pay the rent"`
	// MemoryBudget bounds the buffers of all sessions, in MiB. Default 1024
	MemoryBudget int64 `toml:"memory_budget_mib" help:"bound on the buffers of all sessions, in MiB"`

	Relay RelaySettings `toml:"relay"`
	NAT   NATSettings   `toml:"nat"`
	TUN   TUNSettings   `toml:"tun"`
	DNS   DNSSettings   `toml:"dns"`
	// Links are the policies of this host's links, by patterns of their names.
	Links   LinkSettings    `toml:"links" reload:"yes"`
	Gateway GatewaySettings `toml:"gateway"`
	Ledger  LedgerSettings  `toml:"ledger"`
	Control ControlSettings `toml:"control"`
	Metrics MetricsSettings `toml:"metrics"`
	Log     LogSettings     `toml:"log"`
	Verdict VerdictSettings `toml:"verdict"`
	Pay     PaySettings     `toml:"pay"`
	Inspect InspectSettings `toml:"inspect"`
	// Petnames are this host's own names, which override registered ones.
	Petnames map[string]string `toml:"petnames" reload:"yes"`
}

// RelaySettings make the node a relay: it forwards sealed packets between nodes that
// cannot reach each other.
type RelaySettings struct {
	// Enabled. Default false; scn init turns it on at the node that starts a network.
	Enabled bool `toml:"enabled" help:"forward sealed packets between nodes that cannot reach each other"`
	// Registrations bounds the nodes served. Default 10000, at most 65536.
	Registrations int64 `toml:"registrations" help:"how many nodes to forward for"`
	// PerNodeMbit and TotalMbit bound what is forwarded, in megabits a second.
	// Default 400 and 4000.
	PerNodeMbit int64 `toml:"per_node_mbit" help:"megabits a second to forward for one node"`
	TotalMbit   int64 `toml:"total_mbit" help:"megabits a second to forward for all nodes together"`
	// TCP is where a relay takes tunnels from nodes whose network lets no UDP out;
	// none when empty. Others look for it at port 443, or where the network's
	// parameter relay_tcp_port says. Default :443.
	TCP string `toml:"tcp" help:"TCP address for nodes whose network blocks UDP; empty for none"`
}

// tunnelListen is where tunnels are taken, empty for nowhere.
func (s RelaySettings) tunnelListen() string {
	if !s.Enabled {
		return ""
	}
	return s.TCP
}

// config returns what the session layer is told, nil for no relay.
func (s RelaySettings) config() *sal.RelayConfig {
	if !s.Enabled {
		return nil
	}
	const bytesPerMbit = 1_000_000 / 8
	return &sal.RelayConfig{Limits: relay.Limits{
		Registrations: int(s.Registrations), PerNode: s.PerNodeMbit * bytesPerMbit, Total: s.TotalMbit * bytesPerMbit,
	}}
}

// NATSettings configure what is done about a router that translates addresses.
type NATSettings struct {
	// PortMapping asks the router to let packets in (PCP, NAT-PMP, UPnP), except
	// where allow_loopback says that all is on one host. Default true.
	PortMapping bool `toml:"port_mapping" help:"ask the router to let packets in (PCP, NAT-PMP, UPnP)"`
}

// TUNSettings configure the edge for unmodified applications.
type TUNSettings struct {
	// Enabled. Default true.
	Enabled bool `toml:"enabled" help:"carry unmodified applications through a TUN device"`
	// Name of the device. Default scn0.
	Name string `toml:"name" help:"name of the TUN device"`
	// IPv4Pool is where services' IPv4 addresses come from. Default 198.18.0.0/15.
	IPv4Pool string `toml:"ipv4_pool" help:"pool of the services' IPv4 addresses"`
}

// DNSSettings configure the local DNS server.
type DNSSettings struct {
	// Mode is how the operating system is told: auto, resolved, resolvconf, file
	// or off. Default auto.
	Mode string `toml:"mode" help:"how to tell the operating system: auto, resolved, resolvconf, file or off"`
	// Listen are further addresses to answer on. Default none: the TUN's own.
	Listen []string `toml:"listen" help:"further addresses to answer on, besides the TUN's own"`
	// Interfaces are links, besides lo and the TUN, whose queries are answered.
	Interfaces []string `toml:"interfaces" help:"links whose queries are answered, besides lo and the TUN"`
	// Upstreams are the servers of other names. Default: the host's.
	Upstreams []string `toml:"upstreams" help:"servers for all other names; default the host's"`
	// Unknown says what happens to a name never seen here while the authority is
	// down: upstream or servfail. Default upstream.
	Unknown string `toml:"unknown" help:"names never seen while the authority is down: upstream or servfail"`
}

// LedgerSettings configure the ledger of an authority.
type LedgerSettings struct {
	// Archive keeps every block for ever. Default true.
	Archive bool `toml:"archive" help:"an authority keeps every block of the ledger for ever"`
	// Retention is how long blocks are kept otherwise. Default 720h; at least 1h.
	Retention string `toml:"retention" help:"how long blocks are kept where archive is false"`
}

// keep returns how long blocks are kept, 0 for ever.
func (s LedgerSettings) keep() (time.Duration, error) {
	d, err := time.ParseDuration(s.Retention)
	if err == nil && d < time.Hour {
		err = fmt.Errorf("%s, want at least 1h", d)
	}
	if err != nil {
		return 0, fmt.Errorf("ledger.retention: %w", err)
	}
	if s.Archive {
		d = 0
	}
	return d, nil
}

// ControlSettings configure the control socket.
type ControlSettings struct {
	// Socket is its path. Default /run/scn/scn.sock for root's default directory,
	// else scn.sock in the node's directory.
	Socket string `toml:"socket" help:"path of the control socket"`
	// Group may use the socket besides its owner. Default scn.
	Group string `toml:"group" help:"group that may use the control socket"`
}

// MetricsSettings configure Prometheus metrics.
type MetricsSettings struct {
	// Listen is the TCP address of /metrics. Default none.
	Listen string `toml:"listen" help:"TCP address of Prometheus metrics; none by default"`
}

// VerdictSettings configure what decides about sessions that a service's rules ask
// about ("ask" in access.toml).
type VerdictSettings struct {
	// Program is the command that decides, with its arguments. Default none: the user
	// decides with "scn verdict".
	Program []string `toml:"program" help:"command that decides about sessions whose rule says ask; default: only scn verdict"`
	// Timeout is how long a session is held. Default 10s; 100ms to 5m.
	Timeout string `toml:"timeout" help:"how long a session waits for a decision"`
	// WakeTimeout is how long one waits for a target that is being woken. Default 20s.
	WakeTimeout string `toml:"wake_timeout" help:"how long a session waits for a target that is being woken"`
	// Held, HeldPerService and HeldPerPeer bound the sessions that wait.
	Held           int64 `toml:"held" help:"bound on the sessions that wait for a decision, in all"`
	HeldPerService int64 `toml:"held_per_service" help:"bound on those of one service"`
	HeldPerPeer    int64 `toml:"held_per_peer" help:"bound on those of one peer"`
}

// config is the gate's configuration, and the time a target has to wake up.
func (v VerdictSettings) config() (verdict.Config, time.Duration, error) {
	timeout, err1 := time.ParseDuration(v.Timeout)
	wake, err2 := time.ParseDuration(v.WakeTimeout)
	if err2 == nil && (wake <= 0 || wake > 10*time.Minute) {
		err2 = fmt.Errorf("wake_timeout: %s is not between 0 and 10m", wake)
	}
	c := verdict.Config{
		Timeout: timeout, MaxHeld: int(v.Held), MaxPerService: int(v.HeldPerService), MaxPerPeer: int(v.HeldPerPeer),
	}
	if len(v.Program) > 0 {
		c.Judge = verdict.Program(v.Program)
		if _, err := exec.LookPath(v.Program[0]); err != nil {
			err1 = errors.Join(err1, fmt.Errorf("program: %w", err))
		}
	}
	return c, wake, errors.Join(err1, err2, c.Validate())
}

// LogSettings configure the log on standard error.
type LogSettings struct {
	// Level is debug, info, warn or error. Default info.
	Level string `toml:"level" help:"debug, info, warn or error" reload:"yes"`
	// Format is text or json. Default text.
	Format string `toml:"format" help:"text or json"`
}

// DefaultSettings returns the settings of an empty file.
func DefaultSettings() Settings {
	return Settings{
		Listen:       "[::]:47700",
		MemoryBudget: 1024,
		RenewNames:   true,
		NAT:          NATSettings{PortMapping: true},
		Relay:        RelaySettings{Registrations: 10_000, PerNodeMbit: 400, TotalMbit: 4000, TCP: ":443"},
		TUN:          TUNSettings{Enabled: true, Name: "scn0", IPv4Pool: "198.18.0.0/15"},
		Gateway:      GatewaySettings{DeviceFlows: 512},
		DNS:          DNSSettings{Mode: "auto", Unknown: "upstream"},
		Ledger:       LedgerSettings{Archive: true, Retention: "720h"},
		Control:      ControlSettings{Group: "scn"},
		Log:          LogSettings{Level: "info", Format: "text"},
		Verdict:      VerdictSettings{Timeout: "10s", WakeTimeout: "20s", Held: 256, HeldPerService: 64, HeldPerPeer: 16},
		Pay:          defaultPay(),
		Inspect:      defaultInspect(),
	}
}

// ReadSettings reads the file over the defaults. A missing file is an empty one.
func ReadSettings(path string) (Settings, error) {
	s := DefaultSettings()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := s.Overlay(b); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Overlay lays a TOML text over the settings. Unknown keys are errors, each named
// with its line.
func (s *Settings) Overlay(text []byte) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(s)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		errs := make([]error, 0, len(strict.Errors))
		for _, e := range strict.Errors {
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: unknown key %q: \"scn up --help\" names every key", row, joinKey(e.Key())))
		}
		return errors.Join(errs...)
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, column := decode.Position()
		return fmt.Errorf("line %d, column %d: %s", row, column, decode.Error())
	}
	return err
}

// Validate reports all faults of the settings together.
func (s Settings) Validate() error {
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(key+": "+format, args...))
	}
	if a, err := netip.ParseAddrPort(s.Listen); err != nil {
		fault("listen", "%q is no IP:PORT", s.Listen)
	} else if a.Port() == 65535 {
		fault("listen", "port 65535 leaves none for the DHT, which uses the next one")
	}
	for _, a := range s.Advertise {
		if p, err := netip.ParseAddrPort(a); err != nil || p.Port() == 0 || p.Addr().IsUnspecified() {
			fault("advertise", "%q is no IP:PORT others could dial", a)
		}
	}
	if len(s.Region) > 32 {
		fault("region", "%d bytes, at most 32", len(s.Region))
	}
	for _, p := range s.IgnoreInterfaces {
		if _, err := filepath.Match(p, "eth0"); err != nil {
			fault("ignore_interfaces", "%q is no pattern: %w", p, err)
		}
	}
	if _, err := s.Links.rules(); err != nil {
		errs = append(errs, err)
	}
	if err := s.Gateway.validate(s.TUN); err != nil {
		errs = append(errs, err)
	}
	if _, err := s.Ledger.keep(); err != nil {
		errs = append(errs, err)
	}
	if s.MemoryBudget < 16 || s.MemoryBudget > 1<<20 {
		fault("memory_budget_mib", "%d is not between 16 and 1048576", s.MemoryBudget)
	}
	if s.Relay.Registrations < 1 || s.Relay.Registrations > 65536 {
		fault("relay.registrations", "%d is not between 1 and 65536", s.Relay.Registrations)
	}
	for key, rate := range map[string]int64{"relay.per_node_mbit": s.Relay.PerNodeMbit, "relay.total_mbit": s.Relay.TotalMbit} {
		if rate < 1 || rate > 1_000_000 {
			fault(key, "%d is not between 1 and 1000000", rate)
		}
	}
	if s.Relay.TCP != "" {
		if _, port, err := net.SplitHostPort(s.Relay.TCP); err != nil || port == "" || port == "0" {
			fault("relay.tcp", "%q is no HOST:PORT", s.Relay.TCP)
		}
	}
	if s.Relay.Enabled && s.Mobile {
		fault("relay.enabled", "a mobile host cannot be a relay: nobody would find it")
	}
	if len(s.TUN.Name) == 0 || len(s.TUN.Name) > 15 {
		fault("tun.name", "%q: a link's name has 1 to 15 characters", s.TUN.Name)
	}
	if p, err := netip.ParsePrefix(s.TUN.IPv4Pool); err != nil || !p.Addr().Is4() || p.Bits() > 24 {
		fault("tun.ipv4_pool", "%q is no IPv4 prefix of /24 or wider", s.TUN.IPv4Pool)
	}
	oneOf(fault, "dns.mode", s.DNS.Mode, "auto", "resolved", "resolvconf", "file", "off")
	oneOf(fault, "dns.unknown", s.DNS.Unknown, "upstream", "servfail")
	for _, a := range append(slices.Clone(s.DNS.Listen), s.DNS.Upstreams...) {
		if _, err := ParseServer(a); err != nil {
			fault("dns", "%w", err)
		}
	}
	if s.Metrics.Listen != "" {
		if _, _, err := net.SplitHostPort(s.Metrics.Listen); err != nil {
			fault("metrics.listen", "%q is no HOST:PORT", s.Metrics.Listen)
		}
	}
	if _, err := s.Log.level(); err != nil {
		fault("log.level", "%q is not debug, info, warn or error", s.Log.Level)
	}
	if _, _, err := s.Verdict.config(); err != nil {
		fault("verdict", "%w", err)
	}
	if _, err := s.Pay.config(); err != nil {
		errs = append(errs, err)
	}
	if _, err := s.Inspect.config(); err != nil {
		errs = append(errs, err)
	}
	oneOf(fault, "log.format", s.Log.Format, "text", "json")
	for pet, id := range s.Petnames {
		if _, err := name.Parse(pet); err != nil {
			fault("petnames", "%w", err)
		}
		if _, err := identity.ParseServiceID(id); err != nil {
			fault("petnames."+pet, "%w", err)
		}
	}
	return errors.Join(errs...)
}

// ParseServer reads the address of a DNS server, IP or IP:PORT; the port defaults
// to 53.
func ParseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("%q is no IP or IP:PORT of a DNS server", s)
	}
	return a, nil
}

func (l LogSettings) level() (level slog.Level, err error) {
	return level, level.UnmarshalText([]byte(l.Level))
}

func oneOf(fault func(key, format string, args ...any), key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		fault(key, "%q is none of %v", value, allowed)
	}
}

func joinKey(key toml.Key) string {
	var b bytes.Buffer
	for i, k := range key {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(k)
	}
	return b.String()
}

// needRestart names the keys that differ from running and take effect only at the
// next start.
func (s Settings) needRestart(running Settings) []string {
	var keys []string
	walkSettings(reflect.ValueOf(s), reflect.ValueOf(running), "", func(key string, reloads bool, a, b any) {
		if !reloads && !reflect.DeepEqual(a, b) {
			keys = append(keys, key)
		}
	})
	return keys
}

func walkSettings(a, b reflect.Value, prefix string, visit func(key string, reloads bool, a, b any)) {
	for i := range a.NumField() {
		field := a.Type().Field(i)
		key := prefix + field.Tag.Get("toml")
		if field.Type.Kind() == reflect.Struct {
			walkSettings(a.Field(i), b.Field(i), key+".", visit)
			continue
		}
		visit(key, field.Tag.Get("reload") == "yes", a.Field(i).Interface(), b.Field(i).Interface())
	}
}
