package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ErrRule is returned for a text that is no rule.
var ErrRule = errors.New("guest: no rule")

// all is the word for every source and every service.
const all = "all"

// MaxRules bounds a list of rules: each packet flow looks at all of them.
const MaxRules = 1024

// Rule allows devices to use a service. The zero value allows nothing.
type Rule struct {
	// Source is where the device must be; the zero prefix is everywhere.
	Source netip.Prefix
	// Any allows every service. Otherwise Service is its ID, or Name what it is called,
	// with or without the zone.
	Any     bool
	Service identity.ServiceID
	Name    string
	// Port is the one port allowed, 0 all of them.
	Port uint16
}

// ParseRule reads "SOURCE SERVICE[:PORT]".
func ParseRule(text string) (Rule, error) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return Rule{}, fmt.Errorf("%w: %q is not \"SOURCE SERVICE\", as in \"192.168.8.0/24 files:80\"", ErrRule, text)
	}
	var r Rule
	var err error
	if r.Source, err = parseSource(fields[0]); err != nil {
		return Rule{}, err
	}
	service, port, found := strings.Cut(fields[1], ":")
	if found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Rule{}, fmt.Errorf("%w: %q is no port", ErrRule, port)
		}
		r.Port = uint16(n)
	}
	if service == all {
		r.Any = true
		return r, nil
	}
	if id, err := identity.ParseServiceID(service); err == nil {
		r.Service = id
		return r, nil
	}
	label, _, _ := strings.Cut(service, ".")
	if _, err := name.Parse(label); err != nil {
		return Rule{}, fmt.Errorf("%w: %q is no name, no service ID and not %q: %w", ErrRule, service, all, err)
	}
	r.Name = service
	return r, nil
}

func parseSource(text string) (netip.Prefix, error) {
	if text == all {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return p, fmt.Errorf("%w: %q is no address, no prefix and not %q", ErrRule, text, all)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%w: %s has bits set after its length: %s was meant, or a single address", ErrRule, p, p.Masked())
	}
	return p, nil
}

// String returns the text ParseRule reads.
func (r Rule) String() string {
	source, service := all, r.Name
	switch {
	case r.Source.IsSingleIP():
		source = r.Source.Addr().String()
	case r.Source.IsValid():
		source = r.Source.String()
	}
	switch {
	case r.Any:
		service = all
	case !r.Service.IsZero():
		service = r.Service.String()
	}
	if r.Port != 0 {
		service += ":" + strconv.Itoa(int(r.Port))
	}
	return source + " " + service
}

// Covers reports whether the rule speaks of the device and the port, whatever the
// service. Port 0, which an echo request has, is covered by every rule.
func (r Rule) Covers(device netip.Addr, port uint16) bool {
	return (!r.Source.IsValid() || r.Source.Contains(device.Unmap())) && (r.Port == 0 || port == 0 || r.Port == port)
}
