package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// fileName is what is downloaded.
const fileName = "film.bin"

// The networks of the story, by their number in 10.N.0.0/24.
const (
	core = iota
	home
	cafe
	rack1
	rack2
	networks
)

// stage is everything on it.
type stage struct {
	binary  string
	work    string
	net     *overlay.Internet
	network *overlay.Network
	client  *actor
	server  *actor
	began   time.Time
}

// actor is a host that moves.
type actor struct {
	host *netns.Host
	link *netns.Link
	node *overlay.Node
}

func show(ctx context.Context, binary string, size int64, verbose bool) (err error) {
	work, err := os.MkdirTemp("", "scn-demo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	cfg := netns.Config{Fatal: overlay.DemoFailed}
	if verbose {
		cfg.Logf = func(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
	}
	lab, err := netns.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	s := &stage{binary: binary, work: work, began: time.Now()}
	s.network = overlay.New(binary, work)
	if err := s.build(ctx, lab); err != nil {
		return err
	}
	sum, err := overlay.MakeFile(filepath.Join(work, "www", fileName), size)
	if err != nil {
		return err
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	return s.play(ctx, sum, size)
}

func (s *stage) say(format string, args ...any) {
	fmt.Printf("%5.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// build makes hosts and the network of three nodes.
func (s *stage) build(ctx context.Context, lab *netns.Lab) error {
	s.net = overlay.NewInternet(lab, networks)
	authorityHost, link := s.net.Host("authority", core, 2)
	s.client, s.server = &actor{}, &actor{}
	s.client.host, s.client.link = s.net.Host("client", home, 2)
	s.server.host, s.server.link = s.net.Host("provider", rack1, 2)

	s.say("authority at %s: scn init --new-network lab; scn up", link.Addr4())
	authority, err := s.network.Found(ctx, authorityHost, link.Addr4())
	if err != nil {
		return err
	}
	if err := up(ctx, authority); err != nil {
		return err
	}
	for _, a := range []*actor{s.client, s.server} {
		s.say("%s at %s: scn init --network network.toml; scn up", a.host.Name(), a.link.Addr4())
		if a.node, err = s.network.Join(ctx, a.host); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, a := range []*actor{s.client, s.server} {
		wg.Go(func() { errs[i] = up(ctx, a.node) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func up(ctx context.Context, n *overlay.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return n.Up(ctx)
}

// serve starts the file server and gives it a name.
func (s *stage) serve(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	files := s.server.host.Command(ctx, self, overlay.ServeFilesArgument, filepath.Join(s.work, "www"), "127.0.0.1:8080")
	files.Stdout, files.Stderr = os.Stdout, os.Stderr
	if err := files.Start(); err != nil {
		return err
	}
	echo, err := overlay.ServeEcho(s.server.host, "127.0.0.1:7")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = echo.Close() })
	s.say("provider: scn serve files 80=tcp://127.0.0.1:8080 7=udp://127.0.0.1:7 --allow all")
	if err := s.server.node.Serve(ctx, "files", "80=tcp://127.0.0.1:8080", "7=udp://127.0.0.1:7"); err != nil {
		return err
	}
	looking := time.Now()
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address, err := s.client.node.Resolve(bounded, "ip4", "files.top")
	if err != nil {
		return err
	}
	s.say("client: files.top is %s (found in %v)", address, time.Since(looking).Round(time.Millisecond))
	return nil
}
