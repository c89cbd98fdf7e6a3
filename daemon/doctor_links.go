package daemon

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// checkReversePath looks for links whose answers the kernel throws away: with strict
// reverse-path filtering only the link of the best default route hears anything. proc is
// /proc.
func checkReversePath(proc fs.FS) Finding {
	links := defaultRoutes(proc)
	if len(links) < 2 {
		return Finding{"links", Good, fmt.Sprintf("%d with a default route", len(links)), ""}
	}
	all := readWord(proc, "sys/net/ipv4/conf/all/rp_filter")
	var strict []string
	for _, l := range links {
		// The larger of the two counts (ip-sysctl).
		if max(all, readWord(proc, "sys/net/ipv4/conf/"+l+"/rp_filter")) == "1" {
			strict = append(strict, l)
		}
	}
	found := fmt.Sprintf("%s have default routes", strings.Join(links, ", "))
	if len(strict) == 0 {
		return Finding{"links", Good, found, ""}
	}
	var advice strings.Builder
	for _, l := range strict {
		fmt.Fprintf(&advice, " net.ipv4.conf.%s.rp_filter=2", l)
	}
	return Finding{
		"links", Poor, fmt.Sprintf("%s, and strict reverse-path filtering lets only one of them receive", found),
		"sysctl -w" + advice.String(),
	}
}

// checkGateway looks at what devices behind this host need of it.
func checkGateway(proc fs.FS, s GatewaySettings, running bool) []Finding {
	if !s.enabled() {
		return nil
	}
	var out []Finding
	if len(s.Allow) == 0 {
		out = append(out, Finding{"gateway", Poor, "no rule allows any device anything", "add rules to gateway.allow, as \"192.168.8.0/24 files:80\""})
	}
	for _, name := range s.Interfaces {
		switch value := readWord(proc, "sys/net/ipv4/conf/"+name+"/forwarding"); {
		case value == "":
			out = append(out, Finding{"gateway", Poor, "there is no link " + name, "its devices reach nothing until it comes"})
		case value == "0" && running:
			out = append(out, Finding{"gateway", Bad, "the kernel forwards nothing that comes in by " + name, "sysctl -w net.ipv4.conf." + name + ".forwarding=1"})
		default:
			out = append(out, Finding{"gateway", Good, "devices behind " + name + " are forwarded", ""})
		}
	}
	if readWord(proc, "sys/net/ipv6/conf/all/forwarding") == "0" {
		out = append(out, Finding{"gateway", Poor, "devices cannot use IPv6 through this host", "sysctl -w net.ipv6.conf.all.forwarding=1 (and accept_ra=2 of links that learn their routes by router advertisements)"})
	}
	return out
}

// defaultRoutes are the links that have one over IPv4.
func defaultRoutes(proc fs.FS) []string {
	b, err := fs.ReadFile(proc, "net/route")
	if err != nil {
		return nil
	}
	var out []string
	for l := range strings.Lines(string(b)) {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …
		f := strings.Fields(l)
		if len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" && !slices.Contains(out, f[0]) {
			out = append(out, f[0])
		}
	}
	return out
}

// readWord reads a setting, empty if it is not there.
func readWord(proc fs.FS, name string) string {
	b, err := fs.ReadFile(proc, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
