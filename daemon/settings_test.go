package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestDefaultSettingsAreValid(t *testing.T) {
	if err := DefaultSettings().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestMissingSettingsFileIsEmpty(t *testing.T) {
	s, err := ReadSettings(filepath.Join(t.TempDir(), "none"))
	if err != nil || !reflect.DeepEqual(s, DefaultSettings()) {
		t.Fatalf("settings %+v, %v", s, err)
	}
}

// TestFaultsAreReportedTogether breaks many keys at once; each must be named.
func TestFaultsAreReportedTogether(t *testing.T) {
	s := DefaultSettings()
	err := s.Overlay([]byte(`
listen = "nowhere"
advertise = ["0.0.0.0:1"]
ignore_interfaces = ["[a"]
memory_budget_mib = 1
mobile = true
[relay]
enabled = true
registrations = 100000
per_node_mbit = 0
total_mbit = -1
[tun]
name = "a-name-that-is-too-long"
ipv4_pool = "10.0.0.0/30"
[dns]
mode = "magic"
unknown = "guess"
upstreams = ["dns.example"]
[metrics]
listen = "9090"
[pay]
max_price_per_gib = "cheap"
max_price_per_hour = "-1"
budget_per_day = "1.1234567"
budget_per_service = "1e3"
deposit = ""
policy = "nearest"
usage_days = 0
[log]
level = "loud"
format = "xml"
[petnames]
x = "abc"
`))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, key := range []string{
		"listen:", "advertise:", "ignore_interfaces:", "memory_budget_mib:", "relay.enabled:", "relay.registrations:",
		"relay.per_node_mbit:", "relay.total_mbit:", "tun.name:", "tun.ipv4_pool:", "dns.mode:",
		"dns.unknown:", "dns:", "metrics.listen:", "log.level:", "log.format:", "petnames:", "petnames.x:",
		"pay.max_price_per_gib:", "pay.max_price_per_hour:", "pay.budget_per_day:", "pay.budget_per_service:", "pay.policy:", "pay.usage_days:",
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("fault of %s not reported in:\n%v", key, err)
		}
	}
}

func TestUnknownKeysAreNamedWithTheirLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scn.toml")
	if err := os.WriteFile(path, []byte("listen = \"[::]:1\"\nnonsense = 1\n[tun]\ncolour = \"red\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadSettings(path)
	if err == nil {
		t.Fatal("unknown keys accepted")
	}
	for _, want := range []string{path, "line 2", `"nonsense"`, "line 4", `"tun.colour"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q not in: %v", want, err)
		}
	}
}

func TestNeedRestart(t *testing.T) {
	running, read := DefaultSettings(), DefaultSettings()
	read.Log.Level = "debug"
	read.Petnames = map[string]string{"a": "b"}
	read.TUN.Name = "other0"
	read.Listen = "[::]:1"
	got := read.needRestart(running)
	if want := []string{"listen", "tun.name"}; !reflect.DeepEqual(got, want) {
		t.Errorf("needRestart = %v, want %v", got, want)
	}
}

func TestSocketPathIsBounded(t *testing.T) {
	s := DefaultSettings()
	if p, err := s.socket(DefaultDir); err != nil || p != DefaultSocket {
		t.Errorf("root's socket %s, %v", p, err)
	}
	if _, err := s.socket("/" + strings.Repeat("d", 120)); err == nil || !strings.Contains(err.Error(), "control.socket") {
		t.Errorf("long path: %v", err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("listen = \"[::]:1\"\n[tun]\nname = \"x\"\n"))
	f.Add([]byte("[petnames]\na = \"b\""))
	f.Fuzz(func(_ *testing.T, text []byte) {
		s := DefaultSettings()
		if s.Overlay(text) == nil {
			_ = s.Validate()
		}
	})
}

func TestSnakeCase(t *testing.T) {
	for in, want := range map[string]string{"BytesSent": "bytes_sent", "RTTMax": "rtt_max", "Peers": "peers", "MaxRTT": "max_rtt"} {
		if got := snakeCase(in); got != want {
			t.Errorf("snakeCase(%s) = %s, want %s", in, got, want)
		}
	}
}
