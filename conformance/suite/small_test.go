package suite

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dig asks a DNS server that is itself a service of the overlay, and the host's
// own about the overlay, over UDP and TCP.
func dig() program {
	return program{
		name:  "dig",
		needs: []string{"dig"},
		serve: func(t *testing.T, w *world) {
			packet, err := w.provider.host.ListenPacket("udp", "127.0.0.1:5353")
			must(t, err)
			stream, err := w.provider.host.Listen("tcp", "127.0.0.1:5353")
			must(t, err)
			answerDNS(t, packet, stream)
			w.serve(t, "resolver", "53=udp://127.0.0.1:5353", "53=tcp://127.0.0.1:5353")
		},
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			server, err := w.client.Resolve(within(t, 20*time.Second), "ip4", "resolver.top")
			must(t, err)
			own := w.client.host.Resolvers()
			if len(own) == 0 {
				t.Fatal("the client's resolv.conf names no server")
			}
			check := func(stage int) error {
				name := fmt.Sprintf("stage%d.test", stage)
				for _, q := range []struct {
					server, name, want string
					options            []string
				}{
					{server.String(), name, "192.0.2.1", nil},
					{server.String(), name, "192.0.2.1", []string{"+tcp"}},
					{own[0], "resolver.top", server.String(), nil},
					{own[0], "resolver.top", server.String(), []string{"+tcp"}},
				} {
					args := append([]string{"@" + q.server, q.name, "A", "+short", "+tries=3", "+time=5"}, q.options...)
					out, err := w.client.host.Command(context.WithoutCancel(t.Context()), "dig", args...).Output()
					if err != nil {
						return err
					}
					if got := strings.TrimSpace(string(out)); got != q.want {
						return fmt.Errorf("dig %s: %q, want %s", strings.Join(args, " "), got, q.want)
					}
				}
				return nil
			}
			return check, func() error { return nil }
		},
	}
}

// answerDNS answers every question for an address with 192.0.2.1.
func answerDNS(t *testing.T, packet net.PacketConn, stream net.Listener) {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A:   net.IPv4(192, 0, 2, 1),
			})
		}
		_ = w.WriteMsg(m)
	})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // runs after the servers are shut down
	for _, s := range []*dns.Server{{PacketConn: packet, Handler: handler}, {Listener: stream, Handler: handler}} {
		wg.Go(func() { _ = s.ActivateAndServe() })
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

// ping runs on through all moves.
func ping() program {
	return program{
		name:  "ping",
		needs: []string{"ping"},
		serve: func(*testing.T, *world) {}, // echo.top is there
		start: func(t *testing.T, w *world) (func(int) error, func() error) {
			p := talk(t, w.client.host.Command(context.WithoutCancel(t.Context()), "ping", "-n", "-i", "0.1", "echo.top"))
			seen := 0
			check := func(int) error {
				next, err := p.expect("bytes from", max(seen, len(p.heard())))
				seen = next
				return err
			}
			finish := func() error {
				_ = p.interrupt()
				for _, line := range p.heard() {
					if strings.Contains(line, "packets transmitted") {
						fields := strings.Fields(line)
						sent, err := strconv.Atoi(fields[0])
						if err != nil {
							return err
						}
						got, err := strconv.Atoi(fields[3])
						if err != nil {
							return err
						}
						if got < sent/2 {
							return fmt.Errorf("%d of %d pings answered", got, sent)
						}
						return nil
					}
				}
				return fmt.Errorf("ping printed no summary: %q", p.heard())
			}
			return check, finish
		},
	}
}
