package suite

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Reference: issue "Shown by" 3: authority down: a cold lookup and a new session
// still work.
func TestAuthorityDown(t *testing.T) {
	w := newWorld(t)
	late := w.actor("late", cafe)
	w.join(t, late)
	tcpServer(t, w.provider.host, "127.0.0.1:9003", copyBack)
	w.serve(t, "cold", "9003=tcp://127.0.0.1:9003")
	w.authority.Kill()
	began := time.Now()
	ctx := within(t, 30*time.Second)
	address, err := late.Resolve(ctx, "ip4", "cold.top")
	must(t, err)
	looked := time.Since(began)
	c, err := late.host.Dial(ctx, "tcp", net.JoinHostPort(address.String(), "9003"))
	must(t, err)
	defer c.Close()
	must(t, roundTrip(c))
	t.Logf("without the authority: looked up in %v, session after %v", looked.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if looked > 10*time.Second {
		t.Errorf("the cold lookup took %v", looked)
	}
}

// roundTrip sends a few bytes to an echo and waits for them.
func roundTrip(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return err
	}
	got := make([]byte, 6)
	for n := 0; n < len(got); {
		m, err := c.Read(got[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if string(got) != "hello\n" {
		return fmt.Errorf("%q came back", got)
	}
	return nil
}

// picture is what a daemon may not leave changed on its host.
type picture struct {
	interfaces, routes, resolvConf string
}

func (a *actor) picture() picture {
	text, _ := a.host.ReadFile("/etc/resolv.conf")
	return picture{strings.Join(a.host.Interfaces(), " "), a.host.Routes(), string(text)}
}

// Reference: issue "What to build" 4, "What bad input gets": after a kill -9 the
// host's DNS works at once, nothing of the daemon is left, and the next start
// finds names, services, sequence numbers and virtual addresses as before. The
// same after a clean stop.
func TestKillAndRestart(t *testing.T) {
	for _, bind := range []bool{false, true} {
		t.Run(fmt.Sprintf("bind=%v", bind), func(t *testing.T) { killAndRestart(t, bind) })
	}
}

func killAndRestart(t *testing.T, bind bool) {
	w := newWorld(t)
	resolver := w.actor("resolver", core)
	packet, err := resolver.host.ListenPacket("udp", ":53")
	must(t, err)
	stream, err := resolver.host.Listen("tcp", ":53")
	must(t, err)
	answerDNS(t, packet, stream)
	w.client.Stop()
	w.client.host.SetResolvers(resolver.link.Addr4().String())
	if bind {
		w.client.host.BindResolvConf()
	}
	before := w.client.picture()
	tcpServer(t, w.provider.host, "127.0.0.1:9004", copyBack)
	ctx := within(t, 120*time.Second)

	up := func(a *actor) {
		t.Helper()
		must(t, a.Up(within(t, 60*time.Second)))
	}
	works := func() string {
		t.Helper()
		address, err := w.client.Resolve(ctx, "ip4", "stays.top")
		must(t, err)
		c, err := w.client.host.Dial(ctx, "tcp", net.JoinHostPort(address.String(), "9004"))
		must(t, err)
		defer c.Close()
		must(t, roundTrip(c))
		return address.String()
	}
	// elsewhere asks for a name that is no business of the overlay.
	elsewhere := func() error {
		_, err := w.client.Resolve(within(t, 5*time.Second), "ip4", "www.example")
		return err
	}
	must(t, elsewhere())
	up(w.client)
	w.serve(t, "stays", "9004=tcp://127.0.0.1:9004")
	address := works()
	must(t, elsewhere())
	sequence := w.sequence(t)

	w.client.Kill()
	killed := time.Now()
	must(t, elsewhere())
	t.Logf("DNS works %v after the kill", time.Since(killed).Round(time.Millisecond))
	eventually(t, 10*time.Second, func() error {
		if now := w.client.picture(); now != before {
			return fmt.Errorf("after the kill the host has\n%+v\nit had\n%+v", now, before)
		}
		return nil
	})
	up(w.client)
	if again := works(); again != address {
		t.Errorf("the virtual address was %s and is %s after a kill", address, again)
	}
	w.provider.Kill()
	up(w.provider)
	if again := works(); again != address {
		t.Errorf("the virtual address was %s and is %s after the provider's kill", address, again)
	}
	if now := w.sequence(t); now < sequence {
		t.Errorf("the sequence number went from %d back to %d", sequence, now)
	}
	w.authority.Kill()
	up(w.authority)
	if _, err := w.provider.Run(ctx, "name", "register", "another"); err != nil {
		t.Errorf("after the authority's kill: %v", err)
	}
	if _, err := w.client.Run(ctx, "name", "register", "stays"); err == nil {
		t.Error("after its kill the authority gives a name away again")
	}
	w.client.Stop()
	if now := w.client.picture(); now != before {
		t.Errorf("after a clean stop the host has\n%+v\nit had\n%+v", now, before)
	}
}

// sequence returns the provider's sequence number as the client sees it.
func (w *world) sequence(t *testing.T) uint64 {
	t.Helper()
	l, err := w.client.Lookup(within(t, 20*time.Second), "stays")
	must(t, err)
	if len(l.Providers) != 1 {
		t.Fatalf("the providers are %+v", l.Providers)
	}
	return l.Providers[0].Sequence
}

// Reference: issue "Shown by" 6: restart a provider: its clients' connections end
// within two round trips, not after a timeout.
func TestProviderRestart(t *testing.T) {
	w := newWorld(t)
	tcpServer(t, w.provider.host, "127.0.0.1:9005", copyBack)
	w.serve(t, "restart", "9005=tcp://127.0.0.1:9005")
	// One connection has something to say all the time, the other is idle.
	var conns [2]net.Conn
	ended := [2]chan time.Time{make(chan time.Time, 1), make(chan time.Time, 1)}
	for i := range conns {
		c, err := w.client.host.Dial(within(t, 20*time.Second), "tcp", "restart.top:9005")
		must(t, err)
		defer c.Close()
		must(t, roundTrip(c))
		_ = c.SetDeadline(time.Now().Add(60 * time.Second))
		conns[i] = c
	}
	w.provider.Kill()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, c := range conns {
		wg.Go(func() {
			defer close(ended[i])
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				ended[i] <- time.Now()
			}
		})
	}
	wg.Go(func() {
		for {
			if _, err := conns[0].Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	must(t, w.provider.Up(within(t, 60*time.Second)))
	ready := time.Now()
	for i, name := range []string{"busy", "idle"} {
		at, ok := <-ended[i]
		if !ok {
			t.Errorf("the %s connection outlived the provider it was made with", name)
			continue
		}
		t.Logf("the %s connection ended %v after the provider was ready again", name, at.Sub(ready).Round(time.Millisecond))
		// While nothing answers, a client sends something at least every second.
		if late := at.Sub(ready); late > 2*time.Second {
			t.Errorf("the %s connection ended %v after the provider was ready again", name, late)
		}
	}
	eventually(t, 10*time.Second, func() error {
		again, err := w.client.host.Dial(t.Context(), "tcp", "restart.top:9005")
		if err != nil {
			return err
		}
		defer again.Close()
		return roundTrip(again)
	})
}

// Reference: DESIGN §6: a refusal and an unknown service reach the application
// truthfully.
func TestTruthfulRefusal(t *testing.T) {
	w := newWorld(t)
	ctx := within(t, 60*time.Second)
	w.serve(t, "closed", "9006=tcp://127.0.0.1:9006") // nothing listens there
	if _, err := w.client.host.Dial(ctx, "tcp", "closed.top:9006"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a target that is down: %v, want a refusal", err)
	}
	if _, err := w.client.host.Dial(ctx, "tcp", "closed.top:9007"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port nobody serves: %v, want a refusal", err)
	}
	tcpServer(t, w.provider.host, "127.0.0.1:9006", copyBack)
	eventually(t, 10*time.Second, func() error {
		c, err := w.client.host.Dial(ctx, "tcp", "closed.top:9006")
		if err != nil {
			return err
		}
		defer c.Close()
		return roundTrip(c)
	})
	if _, err := w.client.Run(ctx, "name", "register", "closed"); err == nil {
		t.Error("a name that is taken was given away")
	}
}
