package netns

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a machine of the lab.
type Host struct {
	lab    *Lab
	name   string
	number int
	dir    string
	router bool
	nat    *nat // nil unless it is one; owned by the one caller at a time
	thread *thread
	net    *netlink.Handle

	mu       sync.Mutex // guards below
	links    []*Link
	commands map[*Cmd]struct{}
}

// Host adds a machine without links. The name is also its host name.
func (l *Lab) Host(name string) *Host {
	h := &Host{lab: l, name: name, commands: make(map[*Cmd]struct{})}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	h.number = len(l.hosts)
	l.mu.Unlock()
	h.dir = filepath.Join(l.dir, name)
	l.must(h.layOut(), "files of %s", name)
	var err error
	h.thread, err = newThread(unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWUTS, h.settle)
	l.must(err, "host %s", name)
	h.net, err = handle(h.thread)
	l.must(err, "host %s", name)
	lo, err := h.net.LinkByName("lo")
	l.must(err, "host %s", name)
	l.must(h.net.LinkSetUp(lo), "host %s", name)
	return h
}

// Router adds a host that forwards between its links. On each switch it is
// attached to it becomes the gateway, unless the switch has one: then that one
// becomes the router's own way out.
func (l *Lab) Router(name string) *Host {
	h := l.Host(name)
	h.router = true
	h.Do(func() {
		l.must(sysctl("net/ipv4/ip_forward", "1"), "router %s", name)
		l.must(sysctl("net/ipv6/conf/all/forwarding", "1"), "router %s", name)
	})
	return h
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Dir is the directory with the host's own etc and run, for reading and writing
// from outside the host: Dir()+"/etc/resolv.conf" is the host's.
func (h *Host) Dir() string { return h.dir }

// SetResolvers writes the host's /etc/resolv.conf.
func (h *Host) SetResolvers(servers ...string) {
	var text strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	h.lab.must(os.WriteFile(filepath.Join(h.dir, "etc/resolv.conf"), []byte(text.String()), 0o644), "resolvers of %s", h.name)
}

// BindResolvConf makes /etc/resolv.conf a bind mount, as containers have it: it
// can be written, but not be replaced by renaming.
func (h *Host) BindResolvConf() {
	source := "/run/.resolv.conf"
	target := "/etc/resolv.conf"
	h.Do(func() {
		text, err := os.ReadFile(target)
		h.lab.must(err, "bind resolv.conf of %s", h.name)
		h.lab.must(os.WriteFile(source, text, 0o644), "bind resolv.conf of %s", h.name)
		h.lab.must(unix.Mount(source, target, "", unix.MS_BIND, ""), "bind resolv.conf of %s", h.name)
	})
}

// Do runs f in the host's network and mount namespaces and waits for it: sockets
// made in it are the host's for good. Goroutines started by f are elsewhere.
func (h *Host) Do(f func()) {
	h.lab.must(h.thread.do(f), "on %s", h.name)
}

// Sysctl sets a value below /proc/sys/net of the host, as "ipv4/tcp_rmem".
func (h *Host) Sysctl(key, value string) {
	h.Do(func() { h.lab.must(sysctl("net/"+key, value), "sysctl %s on %s", key, h.name) })
}

// Interfaces returns the names of the host's interfaces, in order.
func (h *Host) Interfaces() []string {
	links, err := h.net.LinkList()
	h.lab.must(err, "interfaces of %s", h.name)
	names := make([]string, 0, len(links))
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	slices.Sort(names)
	return names
}

// Routes returns the host's routes and rules in the order of the kernel, one
// per line: a picture to compare before and after.
func (h *Host) Routes() string {
	var text strings.Builder
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.net.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		h.lab.must(err, "routes of %s", h.name)
		for _, r := range routes {
			fmt.Fprintln(&text, r.String())
		}
		rules, err := h.net.RuleList(family)
		h.lab.must(err, "rules of %s", h.name)
		for _, r := range rules {
			fmt.Fprintln(&text, r.String(), r.Table)
		}
	}
	return text.String()
}

// Addresses returns the addresses of an interface of the host, without
// link-local ones; none when there is no such interface.
func (h *Host) Addresses(name string) []net.IP {
	link, err := h.net.LinkByName(name)
	if err != nil {
		return nil
	}
	list, err := h.net.AddrList(link, netlink.FAMILY_ALL)
	h.lab.must(err, "addresses of %s", h.name)
	var ips []net.IP
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			ips = append(ips, a.IP)
		}
	}
	return ips
}

// settle runs on the host's first thread, in its new namespaces.
func (h *Host) settle() error {
	if err := unix.Sethostname([]byte(h.name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	for _, s := range [][2]string{
		{"net/ipv6/conf/all/disable_ipv6", "0"},
		{"net/ipv6/conf/default/disable_ipv6", "0"},
		{"net/ipv6/conf/all/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/default/dad_transmits", "0"},
		{"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
	} {
		if err := sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return h.mount()
}

func (h *Host) close() {
	h.net.Close()
	h.thread.close()
}
