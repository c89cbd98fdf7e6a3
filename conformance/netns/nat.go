package netns

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// NATKind says how a NAT maps and filters (RFC 4787, in the older words of RFC
// 3489, which people use).
type NATKind int

// The kinds of NAT.
const (
	// PortRestricted keeps one public port per private one, and lets in only
	// answers from where something was sent to.
	PortRestricted NATKind = iota + 1
	// FullCone keeps one public port per private one, and lets everybody in.
	FullCone
	// Symmetric takes a new public port for each destination.
	Symmetric
	// Carrier is a carrier's NAT (RFC 6888), to put before those of homes: one
	// public port per private address and port, never the same number, and only
	// answers from where something was sent to.
	Carrier
	// UDPBlocked is the firewall of an office: it hides hosts as PortRestricted
	// does, loses all UDP, and lets TCP out to ports 80 and 443 alone.
	UDPBlocked
)

// String returns the kind in words.
func (k NATKind) String() string {
	switch k {
	case PortRestricted:
		return "port-restricted"
	case FullCone:
		return "full cone"
	case Symmetric:
		return "symmetric"
	case Carrier:
		return "carrier"
	case UDPBlocked:
		return "UDP blocked"
	default:
		return fmt.Sprintf("NATKind(%d)", int(k))
	}
}

// nat is what makes a router a NAT.
type nat struct {
	kind NATKind
	// seed chooses the public ports; 0 keeps the private ones.
	seed uint32
	// timeout is how long an idle UDP mapping lasts.
	timeout time.Duration
}

// A home's NAT gives the public port the number of the private one where it can.
// This is what Linux does by itself, until somebody else has the port.
const (
	keepPorts = `oifname "OUTSIDE" masquerade`
	newPorts  = `oifname "OUTSIDE" meta l4proto udp masquerade to :jhash ip saddr . udp sport mod 40000 seed SEED offset 20000
		oifname "OUTSIDE" masquerade`
	// Every packet out says anew where those to its public port go.
	letStrangersIn = `
	map inside {
		type inet_service : ipv4_addr . inet_service
		flags dynamic,timeout
		timeout TIMEOUTs
		size 65536
	}
	chain remember {
		type filter hook postrouting priority srcnat + 10;
		oifname "OUTSIDE" meta l4proto udp update @inside { udp sport : ct original ip saddr . ct original proto-src }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname "OUTSIDE" meta l4proto udp dnat ip to udp dport map @inside
	}`
	noUDP = `
		meta l4proto udp drop
		oifname "OUTSIDE" meta l4proto tcp tcp dport != { 80, 443 } drop`
)

// script is the whole of a NAT. Nobody gets in from outside uninvited; IPv6 is
// filtered likewise. What strangers send to the NAT itself must vanish without a
// trace: a connection the kernel remembers for itself would keep its port from
// the one inside who sends to the same stranger a moment later, and so make a
// NAT that keeps ports a symmetric one just when two peers open to one another.
const script = `
add table ip nat
delete table ip nat
add table inet filter
delete table inet filter
table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		MAP
	}STRANGERS
}
table inet filter {
	chain input {
		type filter hook input priority filter;
		iifname "OUTSIDE" meta l4proto udp ct state new drop
	}
	chain forward {
		type filter hook forward priority filter;BLOCK
		ct state established,related accept
		iifname "OUTSIDE" ct status dnat accept
		iifname "OUTSIDE" drop
	}
}
`

// rules returns the NAT as an nftables script.
func (n nat) rules() string {
	mapping, strangers, block := keepPorts, "", ""
	if n.seed != 0 {
		mapping = newPorts
	}
	switch n.kind {
	case Symmetric:
		mapping = keepPorts + " fully-random"
	case FullCone:
		strangers = letStrangersIn
	case UDPBlocked:
		block = noUDP
	case PortRestricted, Carrier:
	}
	return strings.NewReplacer("OUTSIDE", "eth0", "SEED", fmt.Sprint(n.seed), "TIMEOUT", fmt.Sprint(int(n.timeout/time.Second))).
		Replace(strings.NewReplacer("MAP", mapping, "STRANGERS", strangers, "BLOCK", block).Replace(script))
}

// NAT adds a router that hides what is on its inside switches: attach its
// outside first, to a switch that has a gateway, and then its inside. NATs nest:
// the outside of one may be on the inside of another.
func (l *Lab) NAT(name string, kind NATKind) *Host {
	h := l.Router(name)
	if kind < PortRestricted || kind > UDPBlocked {
		l.cfg.Fatal("netns: NAT %s: %s is no kind of NAT", name, kind)
	}
	h.nat = &nat{kind: kind, timeout: 2 * time.Minute}
	if kind == Carrier {
		h.nat.seed = uint32(h.number)
	}
	h.load(h.nat.rules())
	return h
}

// SetUDPTimeout sets how long the NAT keeps a UDP mapping nobody uses; a new one
// keeps them for minutes. It takes effect on mappings that are used afterwards.
func (h *Host) SetUDPTimeout(d time.Duration) {
	h.nat.timeout = d
	for _, key := range []string{"udp_timeout", "udp_timeout_stream"} {
		h.Sysctl("netfilter/nf_conntrack_"+key, fmt.Sprint(int(d/time.Second)))
	}
	h.load(h.nat.rules())
}

// ForgetNAT drops every mapping of a NAT, as a restart of it does. A NAT that
// keeps port numbers may give the same ones again.
func (h *Host) ForgetNAT() {
	h.load(h.nat.rules())
	h.lab.must(h.net.ConntrackTableFlush(netlink.ConntrackTable), "forget the mappings of %s", h.name)
	if h.nat.kind == FullCone {
		h.load("flush map ip nat inside\n") // packets came while the rest was forgotten
	}
}

// RebindNAT drops every mapping of a NAT, and gives other public ports from now
// on.
func (h *Host) RebindNAT() {
	h.nat.seed += 1 << 16
	h.ForgetNAT()
	h.lab.logf("%s: the NAT's mappings are others", h.name)
}

// Block loses every UDP packet a router would forward from one subnet to another,
// both ways, until Unblock: "51.1.0.0/24", "51.2.0.0/24".
func (h *Host) Block(a, b string) {
	h.load(fmt.Sprintf(`
table ip block {
	chain forward {
		type filter hook forward priority filter - 10;
		meta l4proto udp ip saddr %[1]s ip daddr %[2]s drop
		meta l4proto udp ip saddr %[2]s ip daddr %[1]s drop
	}
}`, a, b))
	h.lab.logf("%s: nothing from %s to %s", h.name, a, b)
}

// Unblock undoes every Block.
func (h *Host) Unblock() {
	h.load("add table ip block\ndelete table ip block\n")
	h.lab.logf("%s: nothing is blocked", h.name)
}

// load loads an nftables script on the host.
func (h *Host) load(script string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := h.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	h.lab.must(err, "nftables on %s: %s", h.name, out)
}
