package resolver

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxConf is the longest settings file read, in bytes.
const maxConf = 64 << 10

// marker starts every file we write; the number of the run follows.
const marker = "# Written by scn for its overlay names, run "

const (
	linkPrefix = "#link "
	nonePrefix = "#none"
	linePrefix = "#| "
)

// conf is what a resolv.conf(5) says.
type conf struct {
	servers []netip.AddrPort // port 53, in order, none twice
	search  []string         // the last search or domain line counts
	options []string
	other   []string // lines of other keywords, as they are: sortlist, lookup
}

// parseConf reads a settings file. Lines it does not understand are ignored, as the
// C library does.
func parseConf(b []byte) conf {
	var c conf
	for line := range bytes.Lines(b[:min(len(b), maxConf)]) {
		// A comment starts a line, or follows a word; the C library stops a server's
		// address at any space.
		text := strings.TrimRight(string(line), " \t\r\n")
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if err != nil {
				continue
			}
			if s := netip.AddrPortFrom(addr.Unmap(), 53); !slices.Contains(c.servers, s) && len(c.servers) < 16 {
				c.servers = append(c.servers, s)
			}
		case "search", "domain":
			c.search = fields[1:]
		case "options":
			c.options = append(c.options, fields[1:]...)
		default:
			if !slices.Contains(c.other, text) && len(c.other) < 32 {
				c.other = append(c.other, text)
			}
		}
	}
	return c
}

// original is what a settings file was before us.
type original struct {
	Exists  bool   `json:"exists"`
	Link    string `json:"link,omitempty"`    // the target, if it was a symbolic link
	Content []byte `json:"content,omitempty"` // what reading it gave
	Mode    uint32 `json:"mode,omitempty"`    // permissions of a regular file
}

// render returns our file: our servers, and everything else as it was.
func render(run string, own []netip.Addr, before original, fallback bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s.\n", marker, run)
	fmt.Fprintf(&b, "# scn asks the host's own servers for every other name. What was here before is\n")
	fmt.Fprintf(&b, "# below and comes back when scn ends; \"scn doctor --repair\" puts it back if scn is gone.\n")
	switch {
	case before.Link != "":
		fmt.Fprintf(&b, "%s%s\n", linkPrefix, before.Link)
	case !before.Exists:
		fmt.Fprintf(&b, "%s\n", nonePrefix)
	}
	for line := range bytes.Lines(before.Content) {
		fmt.Fprintf(&b, "%s%s\n", linePrefix, bytes.TrimRight(line, "\n"))
	}
	c := parseConf(before.Content)
	n := 0
	for _, addr := range own[:min(len(own), 3)] { // the C library reads three
		fmt.Fprintf(&b, "nameserver %s\n", addr)
		n++
	}
	if fallback {
		for _, s := range c.servers {
			if n < 3 && !slices.Contains(own, s.Addr()) {
				fmt.Fprintf(&b, "nameserver %s\n", s.Addr())
				n++
			}
		}
	}
	if len(c.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.search, " "))
	}
	options := slices.DeleteFunc(c.options, func(o string) bool {
		return o == "rotate" // would ask the others every other time
	})
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	for _, line := range c.other {
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.Bytes()
}

// writtenBy returns the run that wrote the file; ok is false for others' files.
func writtenBy(b []byte) (run string, ok bool) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	rest, ok := strings.CutPrefix(string(line), marker)
	return strings.TrimSuffix(rest, "."), ok
}

// unrender returns what a file of ours says was there before it.
func unrender(b []byte) original {
	before := original{Exists: true, Mode: 0o644}
	for line := range bytes.Lines(b) {
		text := strings.TrimSuffix(string(line), "\n")
		if link, ok := strings.CutPrefix(text, linkPrefix); ok {
			before.Link = link
		} else if text == nonePrefix {
			before.Exists = false
		} else if old, ok := strings.CutPrefix(text, linePrefix); ok {
			before.Content = append(before.Content, old...)
			before.Content = append(before.Content, '\n')
		}
	}
	return before
}
