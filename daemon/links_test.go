package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/sal/underlay"
)

func TestLinkSettings(t *testing.T) {
	s := DefaultSettings()
	err := s.Overlay([]byte(`[links]
duplicate = true
"wwan*" = "backup"
"w*" = "off"
wwan1 = "metered"
"?wan9" = "prefer"
"wan*9" = "none"
`))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := s.Links.rules()
	if err != nil || !rules.duplicate {
		t.Fatalf("%+v, %v", rules, err)
	}
	for _, c := range []struct {
		name, pattern string
		want          underlay.LinkPolicy
	}{
		{"wwan0", "wwan*", underlay.PolicyBackup},
		{"wwan1", "wwan1", underlay.PolicyMetered},
		{"wlan0", "w*", underlay.PolicyOff},
		{"wwan9", "?wan9", underlay.PolicyPrefer}, // as long as wwan*, and before it
		{"eth0", "", underlay.PolicyNone},
	} {
		if got, pattern := rules.of(c.name); got != c.want || pattern != c.pattern {
			t.Errorf("%s: %v by %q, want %v by %q", c.name, got, pattern, c.want, c.pattern)
		}
	}
}

// TestLinkSettingsFaults has every fault reported at once.
func TestLinkSettingsFaults(t *testing.T) {
	s := DefaultSettings()
	err := s.Overlay([]byte("[links]\nduplicate = \"yes\"\neth0 = \"slow\"\n\"eth[\" = \"off\"\nwlan0 = 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Validate()
	for _, part := range []string{"links.duplicate", "slow", `"eth["`, `links."wlan0"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not among the faults: %v", part, err)
		}
	}
}

// TestLinkTable keeps what was set at run time, over restarts and new settings.
func TestLinkTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "links.json")
	rules := linkRules{policies: map[string]underlay.LinkPolicy{"wwan*": underlay.PolicyBackup}}
	table, err := readLinkTable(file, rules)
	if err != nil {
		t.Fatal(err)
	}
	if p, source := table.of("wwan0"); p != underlay.PolicyBackup || source != `settings, "wwan*"` {
		t.Errorf("wwan0 is %v by %s", p, source)
	}
	if err := table.change("wwan0", "off"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{"wwan0", "fast"}, {"", "off"}, {"a name too long for a link", "off"}, {"../x", "off"}} {
		if err := table.change(bad[0], bad[1]); !errors.Is(err, node.ErrRequest) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	table.replace(linkRules{})
	again, err := readLinkTable(file, linkRules{})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []*linkTable{table, again} {
		if p, source := table.of("wwan0"); p != underlay.PolicyOff || source != "scn link set" {
			t.Errorf("wwan0 is %v by %s", p, source)
		}
	}
	if err := again.change("wwan0", settingsWord); err != nil {
		t.Fatal(err)
	}
	if p, source := again.of("wwan0"); p != underlay.PolicyNone || source != "default" {
		t.Errorf("wwan0 is %v by %s", p, source)
	}
	if err := os.WriteFile(file, []byte(`{"eth0": "sometimes"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readLinkTable(file, rules); err == nil {
		t.Error("a damaged file is read")
	}
}
