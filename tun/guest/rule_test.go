package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"scn.alt/scn/routing/identity"
)

func Example() {
	r, err := ParseRule("192.168.8.0/24 files:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Name, r.Covers(netip.MustParseAddr("192.168.8.20"), 80))
	fmt.Println(r.Name, r.Covers(netip.MustParseAddr("192.168.9.20"), 80))
	// Output:
	// files true
	// files false
}

func TestRule(t *testing.T) {
	id := identity.ServiceID{1, 2, 3}
	for _, c := range []struct {
		text, device string
		port         uint16
		want         bool
	}{
		{"all all", "10.0.0.1", 80, true},
		{"all all", "fd00::1", 80, true},
		{"10.0.0.1 files", "10.0.0.1", 22, true},
		{"10.0.0.1 files", "::ffff:10.0.0.1", 22, true},
		{"10.0.0.1 files", "10.0.0.2", 22, false},
		{"10.0.0.0/31 files:80", "10.0.0.1", 80, true},
		{"10.0.0.0/31 files:80", "10.0.0.1", 0, true},
		{"10.0.0.0/31 files:80", "10.0.0.1", 81, false},
		{"10.0.0.0/31 files:80", "10.0.0.2", 80, false},
		{"0.0.0.0/0 files", "fd00::1", 80, false},
		{"fd00::/64 www.files.top", "fd00::ffff", 443, true},
		{"fd00::/64 " + id.String(), "fd00:0:0:1::", 443, false},
	} {
		r, err := ParseRule(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if r.String() != c.text {
			t.Errorf("%s is written %s", c.text, r)
		}
		if got := r.Covers(netip.MustParseAddr(c.device), c.port); got != c.want {
			t.Errorf("%s covers %s port %d: %v", c.text, c.device, c.port, got)
		}
	}
	if r, err := ParseRule("all " + id.String()); err != nil || r.Service != id || r.Any || r.Name != "" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{
		"", "files", "all", "all files extra", "eth0 files", "10.0.0.300 files", "10.0.0.1/24 files", "10.0.0.0/33 files",
		"all files:0", "all files:65536", "all files:http", "all -files", "all :80", "fe80::1%eth0 files", "::ffff:10.0.0.0/104 files",
	} {
		if r, err := ParseRule(bad); !errors.Is(err, ErrRule) {
			t.Errorf("%q is read as %v: %v", bad, r, err)
		}
	}
}

// FuzzParseRule has what is read written so that it reads the same.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"all all", "10.0.0.0/8 files:80", "fd00::1 x.top", "10.0.0.1  a\t", "1.2.3.4/32 all:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, and %q is %+v: %v", text, r, r.String(), again, err)
		}
		if len(r.String()) > len(strings.TrimSpace(text))+64 {
			t.Errorf("%q grew to %q", text, r)
		}
	})
}
