package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// labsDir is where labs keep the files of their hosts: on the private /run that
// Enter mounts.
const labsDir = "/run/scn-labs"

// Config configures a Lab.
type Config struct {
	// Fatal is told what went wrong while a topology was built or changed. It
	// must not return. Required.
	Fatal func(format string, args ...any)
	// Logf receives the output of commands and what happens to links. Default:
	// discard.
	Logf func(format string, args ...any)
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	if c.Fatal == nil {
		return errors.New("netns: Config.Fatal is required")
	}
	return nil
}

// Lab is a small internet. Close takes it away.
type Lab struct {
	cfg    Config
	dir    string
	fabric *thread         // the namespace of the switches
	net    *netlink.Handle // in it

	mu       sync.Mutex // guards below
	hosts    []*Host
	switches []*Switch
	closers  []func() error // wires, closed before hosts
	links    int
	closed   bool

	logging sync.Mutex // guards silent, and the calls of Config.Logf
	silent  bool       // a test's log must not be written to after the test
}

// Open returns an empty lab. The program must have been moved by Enter.
func Open(cfg Config) (*Lab, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if inside, reason := Inside(); !inside {
		return nil, fmt.Errorf("netns: no lab outside namespaces of its own: %s", reason)
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	dir, err := os.MkdirTemp(labsDir, "")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, dir: dir}
	l.fabric, err = newThread(unix.CLONE_NEWNET|unix.CLONE_NEWNS, quietIPv6)
	if err != nil {
		return nil, fmt.Errorf("netns: fabric: %w", err)
	}
	if l.net, err = handle(l.fabric); err != nil {
		l.fabric.close()
		return nil, err
	}
	return l, nil
}

// handle returns a netlink handle in the namespace of t.
func handle(t *thread) (h *netlink.Handle, err error) {
	h, err = netlink.NewHandleAt(netns.NsHandle(t.network.Fd()))
	if err != nil {
		return nil, fmt.Errorf("netns: netlink: %w", err)
	}
	return h, nil
}

// quietIPv6 keeps the fabric's own ends of links from speaking on them.
func quietIPv6() error { return sysctl("net/ipv6/conf/default/disable_ipv6", "1") }

// sysctl sets a value in the network namespace of the calling thread. What a
// kernel was built without is not missed.
func sysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Close kills what still runs on the lab's hosts and removes all of it. It may
// be called again.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	hosts, closers := l.hosts, l.closers
	l.mu.Unlock()

	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.killAll())
	}
	for _, c := range closers {
		errs = append(errs, c())
	}
	for _, h := range hosts {
		h.close()
	}
	l.net.Close()
	l.fabric.close()
	errs = append(errs, os.RemoveAll(l.dir))
	l.logging.Lock()
	l.silent = true
	l.logging.Unlock()
	return errors.Join(errs...)
}

// must tells Config.Fatal of an error.
func (l *Lab) must(err error, format string, args ...any) {
	if err != nil {
		l.cfg.Fatal("netns: %s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (l *Lab) logf(format string, args ...any) {
	l.logging.Lock()
	defer l.logging.Unlock()
	if !l.silent {
		l.cfg.Logf(format, args...)
	}
}

// nextLink returns a name for the fabric's end of a link, of at most 15 bytes.
func (l *Lab) nextLink() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links++
	return fmt.Sprintf("port%d", l.links)
}

// hardwareAddress numbers a link's ends, so that runs are alike.
func hardwareAddress(host, link int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x5c, 0x4e, byte(host >> 8), byte(host), byte(link)}
}
