package node

import (
	"errors"
	"testing"
)

func TestParseParameter(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       any
	}{
		{RealZoneProof, "true", true},
		{RealZoneProof, "false", false},
		{RealZoneProof, "often", nil},
		{RelayTCPPort, "8443", int64(8443)},
		{RelayTCPPort, "0", nil},
		{RelayTCPPort, "65536", nil},
		{RelayTCPPort, "-1", nil},
		{RelayTCPPort, "", nil},
		{"relay_tcp_prt", "8443", nil},
	} {
		got, err := parseParameter(c.name, c.text)
		if got != c.want || (c.want == nil) != errors.Is(err, ErrRequest) {
			t.Errorf("%s %q is %v, %v", c.name, c.text, got, err)
		}
	}
}

func FuzzParseParameter(f *testing.F) {
	f.Add(RelayTCPPort, "443")
	f.Add(RealZoneProof, "true")
	f.Fuzz(func(t *testing.T, name, text string) {
		v, err := parseParameter(name, text)
		if port, ok := v.(int64); err == nil && ok && (port < 1 || port > 65535) {
			t.Errorf("port %d", port)
		}
	})
}
