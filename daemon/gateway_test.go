package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// TestGatewayRules refuses by default, believes names for a while, and does not take
// "cannot tell now" for no.
func TestGatewayRules(t *testing.T) {
	files, other := identity.ServiceID{1}, identity.ServiceID{2}
	s := GatewaySettings{Interfaces: []string{"br-lan"}, Allow: []string{
		"10.0.0.1 files:80", "10.0.0.2 " + other.String(), "10.0.0.3 all", "10.0.0.4 gone", "10.0.0.5 unsure", "10.0.0.5 " + other.String(),
	}}
	rules, err := s.rules()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	unsure := errors.New("the authority is down")
	g := &gateway{rules: rules, meanings: map[string]meaning{}, resolve: func(_ context.Context, text string) (node.Resolution, error) {
		asked++
		switch text {
		case "files":
			return node.Resolution{Service: files}, nil
		case "gone":
			return node.Resolution{}, fmt.Errorf("%s: %w", text, node.ErrNotFound)
		}
		return node.Resolution{}, unsure
	}}
	for _, c := range []struct {
		device  string
		service identity.ServiceID
		port    uint16
		want    error
	}{
		{"10.0.0.1", files, 80, nil},
		{"10.0.0.1", files, 80, nil},
		{"10.0.0.1", files, 81, syscall.EACCES},
		{"10.0.0.1", other, 80, syscall.EACCES},
		{"10.0.0.2", other, 9, nil},
		{"10.0.0.2", files, 80, syscall.EACCES},
		{"10.0.0.3", files, 1, nil},
		{"10.0.0.4", files, 80, syscall.EACCES},
		{"10.0.0.5", files, 80, unsure},
		{"10.0.0.5", other, 80, nil},
		{"10.0.0.6", files, 80, syscall.EACCES},
		{"fd00::1", files, 80, syscall.EACCES},
	} {
		err := g.Allow(t.Context(), netip.MustParseAddr(c.device), c.service, c.port, record.TCP)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s, port %d of %s: %v, want %v", c.device, c.port, c.service.Short(), err, c.want)
		}
	}
	if asked != 3 {
		t.Errorf("names were asked for %d times", asked)
	}
	g.replace(nil)
	if err := g.Allow(t.Context(), netip.MustParseAddr("10.0.0.3"), files, 1, record.TCP); !errors.Is(err, syscall.EACCES) {
		t.Errorf("without rules: %v", err)
	}
}

// TestGatewaySettingsFaults has every fault reported at once.
func TestGatewaySettingsFaults(t *testing.T) {
	s := DefaultSettings()
	err := s.Overlay([]byte("[tun]\nenabled = false\n[gateway]\ninterfaces = [\"lo\", \"a/b\", \"scn0\"]\nallow = [\"files\", \"10.0.0.1/8 all\"]\ndevice_flows = 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Validate()
	for _, part := range []string{"behind lo", `"a/b"`, "behind scn0", `"files"`, "10.0.0.1/8", "device_flows", "tun.enabled"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not among the faults: %v", part, err)
		}
	}
}
