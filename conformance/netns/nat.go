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
	default:
		return fmt.Sprintf("NATKind(%d)", int(k))
	}
}

// The rules per kind. Linux keeps the source port where it can, which makes its
// plain masquerading port-restricted. A full cone has to remember the way back
// for strangers by itself.
const (
	masquerade = `
table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "OUTSIDE" masqueradeHOW
	}
}`
	cone = `
table ip nat {
	map inside {
		type inet_service : ipv4_addr . inet_service
		flags dynamic,timeout
		timeout 10m
		size 65536
	}
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname "OUTSIDE" meta l4proto udp dnat ip to udp dport map @inside
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "OUTSIDE" meta l4proto udp update @inside { udp sport : ip saddr . udp sport }
		oifname "OUTSIDE" masquerade
	}
}`
	// Nobody gets in from outside uninvited; IPv6 is filtered likewise.
	filter = `
table inet filter {
	chain forward {
		type filter hook forward priority filter;
		ct state established,related accept
		iifname "OUTSIDE" ct status dnat accept
		iifname "OUTSIDE" drop
	}
}`
)

// NAT adds a router that hides what is on its inside switches: attach its
// outside first, to a switch that has a gateway, and then its inside.
func (l *Lab) NAT(name string, kind NATKind) *Host {
	h := l.Router(name)
	var rules string
	switch kind {
	case PortRestricted:
		rules = strings.ReplaceAll(masquerade, "HOW", "")
	case Symmetric:
		rules = strings.ReplaceAll(masquerade, "HOW", " fully-random")
	case FullCone:
		rules = cone
	default:
		l.cfg.Fatal("netns: NAT %s: %s is no kind of NAT", name, kind)
	}
	h.rules(strings.ReplaceAll(rules+filter, "OUTSIDE", "eth0"))
	return h
}

// ForgetNAT drops every mapping of a NAT, as a restart of it does.
func (h *Host) ForgetNAT() {
	h.lab.must(h.flushConntrack(), "forget the mappings of %s", h.name)
}

// rules loads an nftables script on the host.
func (h *Host) rules(script string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := h.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	h.lab.must(err, "nftables on %s: %s", h.name, out)
}

// flushConntrack empties the host's connection tracking table.
func (h *Host) flushConntrack() error { return h.net.ConntrackTableFlush(netlink.ConntrackTable) }
