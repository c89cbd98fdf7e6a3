package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/resolver"
	"scn.alt/scn/tun/guest"
)

// State is the verdict of one check.
type State string

// The verdicts.
const (
	Good State = "ok"
	Poor State = "warn"
	Bad  State = "FAIL"
)

// Finding is what Doctor found out about one thing.
type Finding struct {
	Check  string `json:"check"`
	State  State  `json:"state"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// Repair puts back what a daemon that was killed, guardian and all, left of its own
// in the host's resolver and its forwarding. It does nothing on a host in order, nor while a daemon of
// the directory runs.
func Repair(dir string) error {
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return err
	}
	lock, err := d.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return errors.Join(guest.RestoreFile(forwardingFile(d)), resolver.Repair(resolver.Config{StateDir: d.StateDir()}))
}

// Doctor looks for what keeps the node in dir from working on this host, and says
// what to do. It changes nothing. It takes a few seconds at most.
func Doctor(ctx context.Context, dir string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	findings := []Finding{checkTUN(), checkCapabilities(), checkBuffers()}
	settings, found := checkNode(dir)
	findings = append(findings, found...)
	findings = append(findings, checkReversePath(os.DirFS("/proc")))
	socket, err := settings.socket(dir)
	if err != nil {
		return append(findings, Finding{"control socket", Bad, err.Error(), "set control.socket in the settings"})
	}
	client := control.NewClient(socket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		var e *control.Error
		if errors.As(err, &e) && e.Code == control.NotRunning {
			findings = append(findings, checkGateway(os.DirFS("/proc"), settings.Gateway, false)...)
			return append(findings, checkPort53(), checkResolver(nil),
				Finding{"daemon", Poor, "not running", "scn --dir " + dir + " up"})
		}
		return append(findings, Finding{"daemon", Bad, err.Error(), "look at its log"})
	}
	findings = append(findings, checkGateway(os.DirFS("/proc"), settings.Gateway, true)...)
	findings = append(findings, checkBooks(ctx, client)...)
	return append(findings, checkRunning(ctx, status)...)
}

func checkNode(dir string) (Settings, []Finding) {
	settings := DefaultSettings()
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return settings, []Finding{{"node", Bad, err.Error(), ""}}
	}
	var out []Finding
	add := func(check string, err error, fine string) {
		if err != nil {
			out = append(out, Finding{check, Bad, err.Error(), ""})
			return
		}
		out = append(out, Finding{check, Good, fine, ""})
	}
	_, err = d.NodeKey()
	add("keys", err, "private")
	file, _, err := d.Network()
	add("network file", err, fmt.Sprintf("%s, version %d", file.Name, file.Sequence))
	if read, rerr := ReadSettings(d.SettingsFile()); rerr != nil {
		add("settings", rerr, "")
	} else {
		settings = read
		add("settings", settings.Validate(), d.SettingsFile())
	}
	return settings, out
}

func checkTUN() Finding {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close()
		return Finding{"TUN", Good, "/dev/net/tun opens", ""}
	case errors.Is(err, fs.ErrNotExist):
		return Finding{"TUN", Bad, "no /dev/net/tun", "modprobe tun; in a container add --device /dev/net/tun; or use scn up --no-tun and scn proxy"}
	}
	return Finding{"TUN", Poor, err.Error(), "run as root, or use scn up --no-tun and scn proxy"}
}

func checkCapabilities() Finding {
	set := cap.GetProc()
	var missing []string
	for _, c := range []cap.Value{cap.NET_ADMIN, cap.NET_BIND_SERVICE} {
		if has, err := set.GetFlag(cap.Permitted, c); err != nil || !has {
			missing = append(missing, c.String())
		}
	}
	if len(missing) == 0 {
		return Finding{"capabilities", Good, "network administration and low ports", ""}
	}
	return Finding{"capabilities", Poor, "missing " + strings.Join(missing, ", "), "run the daemon as root; it keeps only these"}
}

// checkBuffers looks at the bound on socket buffers: QUIC wants megabytes.
func checkBuffers() Finding {
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return Finding{"socket buffers", Poor, err.Error(), ""}
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if n < 2500000 {
		return Finding{"socket buffers", Poor, fmt.Sprintf("net.core.rmem_max is %d", n), "sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000"}
	}
	return Finding{"socket buffers", Good, fmt.Sprintf("net.core.rmem_max is %d", n), ""}
}

// checkPort53 finds servers that took port 53 of every address.
func checkPort53() Finding {
	c, err := net.ListenPacket("udp4", "127.83.67.78:53")
	switch {
	case err == nil:
		_ = c.Close()
		return Finding{"port 53", Good, "free on addresses of our own", ""}
	case errors.Is(err, fs.ErrPermission):
		return Finding{"port 53", Poor, "not allowed to try", "run scn doctor as root"}
	}
	return Finding{"port 53", Bad, err.Error(), "a DNS server listens on every address: make it listen on its own (unbound: interface:, dnsmasq: bind-interfaces, named: listen-on)"}
}

func checkResolver(dns *control.DNS) Finding {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return Finding{"resolver", Bad, err.Error(), "write a nameserver line into /etc/resolv.conf"}
	}
	if dns == nil && strings.HasPrefix(string(b), "# Written by scn") {
		return Finding{"resolver", Bad, "/etc/resolv.conf still names a daemon that is gone", "scn doctor --repair, or start it again: scn up"}
	}
	var servers []string
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	if len(servers) == 0 {
		return Finding{"resolver", Poor, "/etc/resolv.conf names no server", "names outside the overlay will not resolve"}
	}
	found := "/etc/resolv.conf names " + strings.Join(servers, ", ")
	if dns != nil {
		found += "; told by " + dns.OS
		if dns.OS == "off" {
			return Finding{"resolver", Poor, found, "programs will not see overlay names: ask " + strings.Join(dns.Listen, " or ") + " for them, or set dns.mode"}
		}
	}
	return Finding{"resolver", Good, found, ""}
}

func checkRunning(ctx context.Context, s control.Status) []Finding {
	out := []Finding{{"daemon", Good, fmt.Sprintf("up for %s, version %s", time.Duration(s.Uptime*float64(time.Second)).Round(time.Second), s.Version), ""}}
	for _, warning := range s.Warnings {
		out = append(out, Finding{"daemon warns", Poor, warning, ""})
	}
	out = append(out, checkResolver(s.DNS))
	if s.DNS != nil && len(s.DNS.Listen) > 0 {
		out = append(out, checkOwnName(ctx, s))
	}
	switch offset := time.Duration(s.ClockOffset * float64(time.Second)); {
	case s.ClockSamples == 0:
		out = append(out, Finding{"clock", Poor, "no peer has told its time yet", ""})
	case offset.Abs() > 30*time.Second:
		out = append(out, Finding{"clock", Poor, fmt.Sprintf("%s off from %d peers", offset.Round(time.Second), s.ClockSamples), "set the clock (timedatectl set-ntp true); until then the peers' time is used"})
	default:
		out = append(out, Finding{"clock", Good, fmt.Sprintf("within %s of %d peers", offset.Abs().Round(time.Millisecond), s.ClockSamples), ""})
	}
	if len(s.Locators) == 0 {
		out = append(out, Finding{"addresses", Bad, "this host has no address others could dial", "connect a network, or set advertise in the settings"})
	} else {
		out = append(out, Finding{"addresses", Good, fmt.Sprint(s.Locators), ""})
	}
	switch {
	case s.DHT.Peers == 0 && tunnelled(s):
		out = append(out, Finding{"reachability", Poor, udpBlocked, fmt.Sprintf("open UDP to the bootstrap nodes, ports P and P+1; listening on %s", s.Listen)})
	case s.DHT.Peers == 0 && !s.Network.Authority:
		out = append(out, Finding{"reachability", Bad, "no peer in the DHT", fmt.Sprintf("is UDP to the bootstrap nodes open, ports P and P+1? Listening on %s", s.Listen)})
	default:
		out = append(out, Finding{"reachability", Good, fmt.Sprintf("%d peers in the DHT, %d connected", s.DHT.Peers, len(s.Peers)), ""})
	}
	for _, m := range s.Mapped {
		out = append(out, Finding{"router", Good, fmt.Sprintf("lets %s in to UDP port %d (%s)", m.Outside, m.Port, m.Protocol), ""})
	}
	mtu := Finding{"MTU", Good, "no path measured yet", ""}
	for _, p := range s.Peers {
		if p.Path.MTU > 0 && p.Path.MTU < 1428 {
			mtu = Finding{"MTU", Poor, fmt.Sprintf("the path to %s carries %d bytes", p.NodeID.Short(), p.Path.MTU), "it works, packets are cut and rejoined; a wider path is faster"}
			break
		}
		mtu.Found = fmt.Sprintf("paths carry %d bytes", p.Path.MTU)
	}
	return append(out, mtu)
}

// checkOwnName asks the local server for a name, as a program would.
func checkOwnName(ctx context.Context, s control.Status) Finding {
	server, err := netip.ParseAddrPort(s.DNS.Listen[0])
	if err != nil {
		return Finding{"DNS server", Poor, err.Error(), ""}
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server.String())
	}}
	start := time.Now()
	_, err = r.LookupNS(ctx, s.Network.Zone+".")
	var none *net.DNSError
	if notFound := errors.As(err, &none) && none.IsNotFound; err != nil && !notFound {
		return Finding{"DNS server", Bad, fmt.Sprintf("%s does not answer: %v", server, err), "look at the daemon's log"}
	}
	return Finding{"DNS server", Good, fmt.Sprintf("%s answered in %s", server, time.Since(start).Round(10*time.Microsecond)), ""}
}
