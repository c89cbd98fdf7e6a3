package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scn.alt/scn/daemon/control"
)

// links asks the client's daemon for its links.
func (w *world) links(t *testing.T) map[string]control.Link {
	t.Helper()
	out, err := w.client.Run(within(t, 20*time.Second), "link", "--json")
	must(t, err)
	var list []control.Link
	must(t, json.Unmarshal(out, &list))
	all := make(map[string]control.Link)
	for _, l := range list {
		all[l.Interface] = l
	}
	return all
}

// TestLinkPolicies sets what links may be used for, in the settings and at run time: the
// backup carries when the first link loses everything in silence, what is off carries
// nothing, and what was set holds over a restart.
func TestLinkPolicies(t *testing.T) {
	w := newWorld(t)
	second := w.client.host.Attach(w.LANs[cafe], w.next())
	writeFile(t, w.client.Dir, "scn.toml", "[links]\n\"eth[1-9]\" = \"backup\"\n", 0o600)
	must(t, syscall.Kill(w.client.PID(), syscall.SIGHUP))
	echo := w.echo(t, "echo")
	expect := func(name, policy, state string) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			if l := w.links(t)[name]; l.Policy != policy || l.State != state {
				return fmt.Errorf("%s is %+v, want %s and %s", name, l, policy, state)
			}
			return nil
		})
	}
	expect("eth0", "none", "in use")
	expect("eth1", "backup", "standby")
	if l := w.links(t)["eth1"]; l.Source != `settings, "eth[1-9]"` || !slices.Contains(l.Addresses, second.Addr4()) || l.RTTMS == 0 {
		t.Errorf("eth1: %+v", l)
	}

	began := time.Now()
	w.client.link.Cut()
	silence, err := echo.Recovered(within(t, 20*time.Second), began, 200*time.Millisecond)
	must(t, err)
	t.Logf("the backup carries after %v", silence)
	if silence > 3*time.Second {
		t.Errorf("the backup took over after %v", silence)
	}
	expect("eth1", "backup", "in use")
	w.client.link.Mend()
	expect("eth0", "none", "in use")

	ctx := within(t, 60*time.Second)
	_, err = w.client.Run(ctx, "link", "set", "eth0", "off")
	must(t, err)
	expect("eth0", "off", "unused")
	expect("eth1", "backup", "in use")
	must(t, echo.Settle(ctx, 200*time.Millisecond))
	sent := w.links(t)["eth0"].BytesSent
	time.Sleep(time.Second)
	if l := w.links(t)["eth0"]; l.BytesSent != sent || l.Why != "its policy is off" {
		t.Errorf("eth0 is off and sent %d bytes: %+v", l.BytesSent-sent, l)
	}
	for _, bad := range [][]string{{"eth0", "fast"}, {"a/b", "off"}} {
		if _, err := w.client.Run(ctx, append([]string{"link", "set"}, bad...)...); err == nil || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("%v: %v", bad, err)
		}
	}

	w.client.Stop()
	must(t, w.client.Up(ctx))
	if l := w.links(t)["eth0"]; l.Policy != "off" || l.Source != "scn link set" {
		t.Errorf("after a restart eth0 is %+v", l)
	}
	_, err = w.client.Run(ctx, "link", "set", "eth0", "settings")
	must(t, err)
	if l := w.links(t)["eth0"]; l.Policy != "none" || l.Source != "default" {
		t.Errorf("eth0 is %+v", l)
	}
	writeFile(t, w.client.Dir, "scn.toml", "[links]\neth0 = \"sometimes\"\n", 0o600)
	if _, err := w.client.Run(ctx, "up", "--check"); err == nil || !strings.Contains(err.Error(), "sometimes") || errors.Is(err, ctx.Err()) {
		t.Errorf("a policy that does not exist is taken: %v", err)
	}
}
