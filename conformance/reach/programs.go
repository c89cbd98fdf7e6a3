package reach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Programs are what a ride runs, for those who want to know whether they are
// there.
func Programs() []string {
	return []string{"ssh", "sshd", "ssh-keygen", "mosquitto", "mosquitto_pub", "mosquitto_sub"}
}

// served is what the trains' programs talk to: an sshd and a broker with a
// publisher beside it.
type served struct {
	dir       string
	broker    *talk
	publisher *talk
	stop      chan struct{}
	wg        sync.WaitGroup

	mu        sync.Mutex // guards published
	published int
}

// servePrograms starts everything on a host and gives it the name depot.top.
func (w *World) servePrograms(ctx context.Context, a *Actor, dir string) (*served, error) {
	s := &served{dir: dir, stop: make(chan struct{})}
	if err := s.sshd(ctx, a); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(config, []byte("listener 1883 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\nlog_dest stderr\nlog_type all\n"), 0o600); err != nil {
		return nil, err
	}
	lasting := context.WithoutCancel(ctx)
	var err error
	if s.broker, err = startTalk(a.Host.Command(lasting, "mosquitto", "-c", config)); err != nil {
		return nil, err
	}
	soon, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := s.broker.expect(soon, "running"); err != nil {
		return nil, err
	}
	if s.publisher, err = startTalk(a.Host.Command(lasting, "mosquitto_pub", "-h", "127.0.0.1", "-i", "speaker", "-q", "1", "-t", "news", "-l")); err != nil {
		return nil, err
	}
	s.wg.Go(s.publish) // ends when close closes stop
	if err := w.ServeEcho(a.Host, "127.0.0.1:7"); err != nil {
		return nil, err
	}
	return s, a.Serve(ctx, "depot", "22=tcp://127.0.0.1:2222", "1883=tcp://127.0.0.1:1883", "7=udp://127.0.0.1:7")
}

// publish says something every half second.
func (s *served) publish() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		n := s.published
		s.published++
		s.mu.Unlock()
		_ = s.publisher.say(fmt.Sprintf("news %d.", n))
	}
}

func (s *served) close() {
	close(s.stop)
	s.wg.Wait()
	_ = s.publisher.end()
	_ = s.broker.end() // interrupted, which is how it ends
}

// sshd starts an sshd. The host's /etc is its own, so it gets accounts of its own:
// a machine's root may be locked.
func (s *served) sshd(ctx context.Context, a *Actor) error {
	etc := filepath.Join(a.Host.Dir(), "etc")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:" + s.dir + ":/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
		"shadow": "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
		"group":  "root:x:0:\nnogroup:x:65534:\n",
	} {
		_ = os.Remove(filepath.Join(etc, name)) // a link to the machine's
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"host", "user"} {
		out, err := a.Host.Command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, name)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	if err := a.Host.Command(ctx, "mkdir", "-p", "/run/sshd").Run(); err != nil {
		return err
	}
	config := filepath.Join(s.dir, "sshd_config")
	text := strings.Join([]string{
		"ListenAddress 127.0.0.1:2222",
		"HostKey " + filepath.Join(s.dir, "host"),
		"AuthorizedKeysFile " + filepath.Join(s.dir, "user.pub"),
		"PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes", "UseDNS no",
		"ClientAliveInterval 5", "ClientAliveCountMax 12", "",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	// sshd wants to be called by its full path.
	if err := a.Host.Command(context.WithoutCancel(ctx), "/usr/sbin/sshd", "-D", "-e", "-f", config).Start(); err != nil {
		return err
	}
	var last error
	for range 200 {
		c, err := a.Host.Dial(ctx, "tcp", "127.0.0.1:2222")
		if err == nil {
			return c.Close()
		}
		last = err
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("sshd does not listen: %w", last)
}

// programs are one train's.
type programs struct {
	served     *served
	client     string
	shell      *talk
	subscriber *talk
	first      int // the number of the first message it must get
	stop       chan struct{}
	wg         sync.WaitGroup
	once       sync.Once

	mu      sync.Mutex // guards below
	lines   int
	slowest time.Duration
	err     error
}

// start opens the shell and subscribes.
func (s *served) start(ctx context.Context, a *Actor) (*programs, error) {
	p := &programs{served: s, client: a.Host.Name(), stop: make(chan struct{})}
	lasting := context.WithoutCancel(ctx)
	var err error
	p.shell, err = startTalk(a.Host.Command(lasting, "ssh",
		"-F", "none", "-i", filepath.Join(s.dir, "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=12", "-T", "root@depot.top", "/bin/sh"))
	if err != nil {
		return nil, err
	}
	if p.subscriber, err = startTalk(a.Host.Command(lasting, "mosquitto_sub", "-h", "depot.top", "-i", p.client, "-q", "1", "-k", "5", "-t", "news")); err != nil {
		return nil, err
	}
	soon, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("a program does not begin"))
	defer cancel()
	if err := s.broker.expect(soon, "SUBSCRIBE from "+p.client); err != nil {
		return nil, err
	}
	s.mu.Lock()
	p.first = s.published + 1 // the one on its way may have been too early
	s.mu.Unlock()
	if err := p.line(soon, 0); err != nil {
		return nil, err
	}
	p.wg.Go(func() { // ends when close closes stop
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			bounded, cancel := context.WithTimeoutCause(lasting, 30*time.Second, errors.New("the shell is silent for 30 s"))
			err := p.line(bounded, n)
			cancel()
			if err != nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
				return
			}
		}
	})
	return p, nil
}

// line lets the shell calculate something and say which process it is a child of.
func (p *programs) line(ctx context.Context, n int) error {
	began := time.Now()
	if err := p.shell.say(fmt.Sprintf("echo line-$((%d+1)). $PPID", 1000*n)); err != nil {
		return err
	}
	err := p.shell.expect(ctx, fmt.Sprintf("line-%d.", 1000*n+1))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.lines++
		p.slowest = max(p.slowest, time.Since(began))
	}
	return err
}

// halt ends the shell's lines.
func (p *programs) halt() {
	p.once.Do(func() { close(p.stop) })
	p.wg.Wait()
}

// end returns what did not survive, and counts what did.
func (p *programs) end(r *Ride) error {
	p.halt()
	p.mu.Lock()
	r.Lines, r.Slowest = p.lines, p.slowest
	errs := []error{p.err}
	p.mu.Unlock()
	parents := make(map[string]bool)
	for _, line := range p.shell.heard() {
		if _, parent, ok := strings.Cut(line, " "); ok {
			parents[parent] = true
		}
	}
	if len(parents) != 1 {
		errs = append(errs, fmt.Errorf("the shell was one of %d: %v", len(parents), parents))
	}
	return errors.Join(append(errs, p.news(r)...)...)
}

// news checks that every message came, in order, over one connection.
func (p *programs) news(r *Ride) (errs []error) {
	p.served.mu.Lock()
	last := p.served.published - 1
	p.served.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Second, errors.New("the newest message does not come"))
	defer cancel()
	if err := p.subscriber.expect(ctx, fmt.Sprintf("news %d.", last)); err != nil {
		errs = append(errs, err)
	}
	next := p.first
	for _, line := range p.subscriber.heard() {
		var n int
		if _, err := fmt.Sscanf(line, "news %d.", &n); err != nil || n < p.first {
			continue
		}
		if n != next {
			errs = append(errs, fmt.Errorf("message %d came when %d was due", n, next))
		}
		next = n + 1
		r.Messages++
	}
	connected := 0
	for _, line := range p.served.broker.heard() {
		if strings.Contains(line, "New client connected") && strings.Contains(line, " as "+p.client+" ") {
			connected++
		}
	}
	if connected != 1 {
		errs = append(errs, fmt.Errorf("%s connected to the broker %d times", p.client, connected))
	}
	return errs
}

func (p *programs) close() {
	if p == nil {
		return
	}
	p.halt()
	_ = p.subscriber.end()
	_ = p.shell.end()
}
