package suite

import (
	"fmt"
	"testing"
	"time"
)

// program is a real program that runs through all moves.
type program struct {
	name  string
	needs []string
	// serve starts the server on the provider and gives it a name.
	serve func(t *testing.T, w *world)
	// start starts the program on the client. It returns what must go well after
	// every move, while the program runs on, and what must have been true when
	// all is over: no reset, no reconnect, every byte right.
	start func(t *testing.T, w *world) (check func(stage int) error, finish func() error)
}

// Reference: issue "Shown by" 3: curl (IPv4, IPv6, HTTP/2), ssh and scp, iperf3
// TCP and UDP and reverse and 8 streams, mosquitto, redis-cli, dig over UDP and
// TCP, ping, unmodified, each through a client move, a provider move and both;
// MTU 1280 and 1124 on the new path; no reset and no reconnect.
func TestProgramsThroughMoves(t *testing.T) {
	sshd := new(sshAccess)
	programs := []program{
		curl("curl-ipv4", 80, "-4"),
		curl("curl-ipv6", 81, "-6"),
		curl("curl-http2", 82, "--http2-prior-knowledge"),
		sshShell(sshd), scp(sshd),
		iperf3("iperf3-tcp", 5201, "-b", "40M"),
		iperf3("iperf3-udp", 5202, "-u", "-b", "4M", "-l", "1200"),
		iperf3("iperf3-reverse", 5203, "-R", "-b", "40M"),
		iperf3("iperf3-8-streams", 5204, "-P", "8", "-b", "4M"),
		mosquitto(), redis(), dig(), ping(),
	}
	var needs []string
	for _, p := range programs {
		needs = append(needs, p.needs...)
	}
	require(t, needs...)
	w := newWorld(t)
	echo := w.echo(t, "echo")
	for _, p := range programs {
		p.serve(t, w)
	}
	type running struct {
		program
		check  func(stage int) error
		finish func() error
	}
	var all []running
	for _, p := range programs {
		check, finish := p.start(t, w)
		all = append(all, running{p, check, finish})
	}
	checkAll := func(stage int, name string) {
		t.Helper()
		errs := make(chan error, len(all))
		for _, r := range all {
			go func() {
				err := r.check(stage)
				if err != nil {
					err = fmt.Errorf("%s: %s: %w", name, r.name, err)
				}
				errs <- err
			}()
		}
		for range all {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
	checkAll(0, "before any move")
	if t.Failed() {
		t.FailNow()
	}
	scenes := append(moves[:len(moves):len(moves)],
		scene{"client moves to MTU 1280", func(w *world) { w.move(w.client, narrow1280) }},
		scene{"client moves back", func(w *world) { w.move(w.client, home) }},
		scene{"provider moves to MTU 1124", func(w *world) { w.move(w.provider, narrow1124) }},
		scene{"both move to full MTU", func(w *world) { moves[2].play(w) }},
	)
	for i, s := range scenes {
		s.play(w)
		usable := time.Now()
		silence, err := echo.Recovered(within(t, 20*time.Second), usable, 200*time.Millisecond)
		if err != nil {
			t.Fatalf("%s: the echo does not come back: %v", s.name, err)
		}
		t.Logf("%s: silence of the echo under load %v", s.name, silence.Round(100*time.Microsecond))
		checkAll(i+1, s.name)
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			if err := r.finish(); err != nil {
				t.Error(err)
			}
		})
	}
}
