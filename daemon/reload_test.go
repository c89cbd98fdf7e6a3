package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
)

// freePort finds a UDP port that is free on loopback, and the next one too.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := c.LocalAddr().(*net.UDPAddr).Port
		next, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = c.Close()
		if err == nil {
			_ = next.Close()
			return uint16(port)
		}
	}
	t.Fatal("no two free UDP ports in a row")
	return 0
}

// TestHangupReloadsRules: the signal takes the rules file anew, a faulty one not, and
// the socket tells what counts.
func TestHangupReloadsRules(t *testing.T) {
	dir := t.TempDir()
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	if _, err := node.Init(dir, node.InitConfig{NewNetwork: "test", Advertise: address, Listen: address}); err != nil {
		t.Fatal(err)
	}
	hangup, ready := make(chan os.Signal), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { // ends with cancel
		done <- Run(ctx, Config{
			Dir: dir, Overrides: "allow_loopback = true\ntun.enabled = false", LogOutput: io.Discard,
			Reload: hangup, Ready: func() { close(ready) },
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	socket, err := SocketOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := control.NewClient(socket)
	defer c.Close()
	rules := func() string {
		v, err := c.Rules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(v.Services)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "access.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hangup <- os.Interrupt // which signal it is, is the command's business
	}
	await := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); rules() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("rules %s, want %s", rules(), want)
			}
		}
	}
	write("[services]\nfiles = [\"allow all\"]\n")
	await("[{files [allow all]}]")
	write("[services]\nfiles = [\"allow all\", \"deny all\"]\n")
	write("[services]\nfiles = [\"allow all\"]\nother = []\n") // taken after the faulty one
	await("[{files [allow all]} {other []}]")

	// This test is the daemon's own user: it may set a check that runs a command.
	q := control.ServeRequest{Name: "files", Targets: []string{"80=tcp://127.0.0.1:9"}, Check: "exec:true"}
	if s, err := c.Serve(t.Context(), q); err != nil || s.Health == nil {
		t.Errorf("serve: %+v, %v", s, err)
	}
	var refused *control.Error
	_, err = backend{d: &daemon{}}.Serve(context.Background(), q) // as from somebody else
	if !errors.As(err, &refused) || refused.Code != control.Refused {
		t.Errorf("somebody else of the group may run commands: %v", err)
	}
}
