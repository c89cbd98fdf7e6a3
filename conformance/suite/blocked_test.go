package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/daemon/control"
)

// noUDP is a firewall that lets no UDP out of a host or into it, but for DNS; what
// stays on the host is not its business.
const noUDP = `
table inet noudp {
	chain out {
		type filter hook output priority filter;
		oifname { "lo", "scn0" } accept
		meta l4proto udp udp dport != 53 drop
	}
	chain in {
		type filter hook input priority filter;
		iifname { "lo", "scn0" } accept
		meta l4proto udp udp sport != 53 drop
	}
}`

func nft(t *testing.T, h *netns.Host, script string) {
	t.Helper()
	cmd := h.Command(within(t, 20*time.Second), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// way says how the client reaches a peer now.
func (w *world) way(t *testing.T, peer *actor) (way, why string) {
	t.Helper()
	s, err := w.client.Status(within(t, 20*time.Second))
	must(t, err)
	for _, p := range s.Peers {
		if p.NodeID.String() == peer.ID {
			return p.Path.Way, p.Path.Why
		}
	}
	return "none", ""
}

// Reference: issue "Reach", 4: where UDP is blocked QUIC goes through TCP to a
// relay, and records with it: what runs goes on, and what starts there starts.
func TestUDPBlocked(t *testing.T) {
	require(t, "nft")
	w := newWorld(t)
	tcpServer(t, w.provider.host, "127.0.0.1:9", copyBack)
	w.serve(t, "pipe", "9=tcp://127.0.0.1:9")
	echo := w.echo(t, "echo")

	began := time.Now()
	nft(t, w.client.host, noUDP)
	silence, err := echo.Recovered(within(t, 60*time.Second), began, 500*time.Millisecond)
	must(t, err)
	t.Logf("UDP blocked while an echo runs: silence %v", silence)
	eventually(t, 30*time.Second, func() error {
		if way, why := w.way(t, w.authority); way != control.Tunnelled {
			return fmt.Errorf("the relay is reached %s: %s", way, why)
		}
		return nil
	})
	if way, why := w.way(t, w.provider); way != control.Relayed {
		t.Errorf("the provider is reached %s: %s", way, why)
	}

	w.client.Stop()
	began = time.Now()
	must(t, w.client.Up(within(t, 60*time.Second)))
	t.Logf("started without UDP: ready after %v", time.Since(began))
	began = time.Now()
	c, err := w.client.host.Dial(within(t, 60*time.Second), "tcp", "pipe.top:9")
	must(t, err)
	defer c.Close()
	t.Logf("first session after %v more", time.Since(began))
	began = time.Now()
	must(t, copied(c, 8<<20))
	t.Logf("8 MiB there and back in %v", time.Since(began))

	nft(t, w.client.host, "delete table inet noudp")
	began = time.Now()
	eventually(t, 2*time.Minute, func() error {
		if way, why := w.way(t, w.provider); way != control.Direct {
			return fmt.Errorf("UDP works again, and the provider is reached %s: %s", way, why)
		}
		return nil
	})
	t.Logf("UDP works again: direct after %v", time.Since(began))
	must(t, copied(c, 1<<20))
}

// Reference: issue "Reach", 4: a provider without UDP publishes where it is by a
// session with the relay, and is found and reached there.
func TestUDPBlockedProvider(t *testing.T) {
	require(t, "nft")
	w := newWorld(t)
	tcpServer(t, w.provider.host, "127.0.0.1:9", copyBack)
	w.serve(t, "pipe", "9=tcp://127.0.0.1:9")
	w.provider.Stop()
	nft(t, w.provider.host, noUDP)
	began := time.Now()
	must(t, w.provider.Up(within(t, 60*time.Second)))
	t.Logf("provider without UDP: ready after %v", time.Since(began))
	began = time.Now()
	var c net.Conn
	eventually(t, 60*time.Second, func() (err error) {
		c, err = w.client.host.Dial(within(t, 10*time.Second), "tcp", "pipe.top:9")
		return err
	})
	defer c.Close()
	t.Logf("client reaches it %v later", time.Since(began))
	must(t, copied(c, 1<<20))
	if way, why := w.way(t, w.provider); way != control.Relayed {
		t.Errorf("the provider is reached %s: %s", way, why)
	}

	// A node that has never heard of it finds it too.
	stranger := w.actor("stranger", cafe)
	w.join(t, stranger)
	began = time.Now()
	d, err := stranger.host.Dial(within(t, 30*time.Second), "tcp", "pipe.top:9")
	must(t, err)
	defer d.Close()
	t.Logf("a newcomer reaches it in %v", time.Since(began))
	must(t, copied(d, 1<<20))
}

// copied sends random bytes and compares what comes back.
func copied(c net.Conn, size int) error {
	sent := make([]byte, size)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(sent)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	wrote := make(chan error, 1)
	go func() { // ends with the connection's deadline
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, size)
	_, err := io.ReadFull(c, got)
	if err = errors.Join(err, <-wrote); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("other bytes came back")
	}
	return nil
}
