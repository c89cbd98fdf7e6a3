package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sshAccess is what a client needs to log in at the provider's sshd.
type sshAccess struct{ dir string }

// serve starts sshd on the provider. The host's /etc is its own, so it gets
// accounts of its own: a machine's root may be locked.
func (a *sshAccess) serve(t *testing.T, w *world) {
	t.Helper()
	a.dir = t.TempDir()
	etc := filepath.Join(w.provider.host.Dir(), "etc")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:" + a.dir + ":/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
		"shadow": "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
		"group":  "root:x:0:\nnogroup:x:65534:\n",
	} {
		_ = os.Remove(filepath.Join(etc, name)) // a link to the machine's
		writeFile(t, etc, name, text, 0o644)
	}
	ctx := within(t, 60*time.Second)
	for _, name := range []string{"host", "user"} {
		out, err := w.provider.host.Command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(a.dir, name)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	must(t, w.provider.host.Command(ctx, "mkdir", "-p", "/run/sshd").Run())
	config := writeFile(t, a.dir, "sshd_config", strings.Join([]string{
		"ListenAddress 127.0.0.1:2222",
		"HostKey " + filepath.Join(a.dir, "host"),
		"AuthorizedKeysFile " + filepath.Join(a.dir, "user.pub"),
		"PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes", "UseDNS no",
		"ClientAliveInterval 5", "ClientAliveCountMax 12",
		"Subsystem sftp internal-sftp", "",
	}, "\n"), 0o600)
	// sshd wants to be called by its full path.
	path := "/usr/sbin/sshd"
	must(t, w.provider.host.Command(t.Context(), path, "-D", "-e", "-f", config).Start())
	eventually(t, 20*time.Second, func() error {
		c, err := w.provider.host.Dial(t.Context(), "tcp", "127.0.0.1:2222")
		if err == nil {
			c.Close()
		}
		return err
	})
	w.serve(t, "shell", "22=tcp://127.0.0.1:2222")
}

// options are those of ssh and scp: only what the test made is read.
func (a *sshAccess) options() []string {
	return []string{
		"-F", "none", "-i", filepath.Join(a.dir, "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=12",
	}
}

// sshShell is a shell that stays open through all moves.
func sshShell(sshd *sshAccess) program {
	return program{
		name:  "ssh",
		needs: []string{"ssh", "sshd", "ssh-keygen"},
		serve: func(t *testing.T, w *world) { sshd.serve(t, w) },
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			shell := talk(t, w.client.host.Command(t.Context(), "ssh", append(sshd.options(), "-T", "root@shell.top", "/bin/sh")...))
			check := func(stage int) error {
				if err := shell.say(fmt.Sprintf("echo stage-$((%d+1)) $PPID", stage*100)); err != nil {
					return err
				}
				_, err := shell.expect(fmt.Sprintf("stage-%d ", stage*100+1), 0)
				return err
			}
			finish := func() error {
				if err := shell.hangUp(); err != nil {
					return err
				}
				parents := make(map[string]bool)
				for _, line := range shell.heard() {
					if _, parent, ok := strings.Cut(line, " "); ok {
						parents[parent] = true
					}
				}
				if len(parents) != 1 {
					return fmt.Errorf("the shell changed while it ran: %q", shell.heard())
				}
				return nil
			}
			return check, finish
		},
	}
}

// scp copies a file while hosts move; it is started anew for each move, so that
// each happens in its midst.
func scp(sshd *sshAccess) program {
	return program{
		name:  "scp",
		needs: []string{"scp"},
		serve: func(*testing.T, *world) {}, // sshShell has
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			dir := t.TempDir()
			content := make([]byte, 3<<20)
			_, _ = rand.NewChaCha8([32]byte{22}).Read(content)
			must(t, os.WriteFile(filepath.Join(dir, "original"), content, 0o600))
			type copying struct {
				stage int
				err   chan error
			}
			begin := func(stage int) copying {
				c := copying{stage, make(chan error, 1)}
				// 16 Mbit/s: the copy takes longer than a move and its check.
				args := append(sshd.options(), "-l", "16000", filepath.Join(dir, "original"),
					fmt.Sprintf("root@shell.top:%s/copy%d", dir, stage))
				go func() {
					out, err := w.client.host.Command(context.WithoutCancel(t.Context()), "scp", args...).CombinedOutput()
					if err != nil {
						err = fmt.Errorf("%w: %s", err, out)
					}
					c.err <- err
				}()
				return c
			}
			running := begin(0)
			end := func() error {
				if err := <-running.err; err != nil {
					return err
				}
				got, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("copy%d", running.stage)))
				if err != nil {
					return err
				}
				if a, b := sha256.Sum256(got), sha256.Sum256(content); !bytes.Equal(a[:], b[:]) {
					return fmt.Errorf("copy %d differs from the original", running.stage)
				}
				return nil
			}
			check := func(stage int) error {
				if stage == 0 {
					return nil // the first copy is to be in its midst at the first move
				}
				if err := end(); err != nil {
					return err
				}
				running = begin(stage)
				time.Sleep(300 * time.Millisecond) // so that it has begun before the next move
				return nil
			}
			return check, end
		},
	}
}
