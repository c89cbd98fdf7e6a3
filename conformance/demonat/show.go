package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/conformance/reach"
)

// fileName is what is downloaded.
const fileName = "film.bin"

// delay is what each uplink adds, each way.
const delay = 10 * time.Millisecond

// stage is everything on it.
type stage struct {
	work                     string
	world                    *reach.World
	home, cafe, flat, office *reach.Place
	client, server           *reach.Actor
	began                    time.Time
}

func show(ctx context.Context, binary string, size int64, verbose bool) (err error) {
	work, err := os.MkdirTemp("", "scn-nat")
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
	s := &stage{work: work, began: time.Now()}
	if err := s.build(ctx, reach.Config{Lab: lab, Binary: binary, Dir: work}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.world.Close()) }()
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

// build makes the Internet, the places and the four nodes.
func (s *stage) build(ctx context.Context, cfg reach.Config) (err error) {
	starting, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the nodes did not start in a minute"))
	defer cancel()
	s.say("two public nodes, both relays: scn init --new-network lab; scn up")
	if s.world, err = reach.Open(starting, cfg); err != nil {
		return err
	}
	access := reach.Delay(delay)
	s.home = s.world.Place(reach.PortRestricted, access)
	s.cafe = s.world.Place(reach.CarrierAndHome, access)
	s.flat = s.world.Place(reach.CarrierAndHome, access)
	s.office = s.world.Place(reach.PortRestricted, access)
	s.client = s.world.Host("client", s.home)
	s.server = s.world.Host("provider", s.flat)
	for _, a := range []*reach.Actor{s.client, s.server} {
		s.say("%s at %s, behind NAT (%s): scn init --network network.toml; scn up", a.Host.Name(), a.Link.Addr4(), a.Place.Kind)
	}
	return s.world.Join(starting, s.client, s.server)
}

// serve starts the file server and gives it a name.
func (s *stage) serve(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	files := s.server.Host.Command(ctx, self, overlay.ServeFilesArgument, filepath.Join(s.work, "www"), "127.0.0.1:8080")
	files.Stdout, files.Stderr = os.Stdout, os.Stderr
	if err := files.Start(); err != nil {
		return err
	}
	if err := s.world.ServeEcho(s.server.Host, "127.0.0.1:7"); err != nil {
		return err
	}
	s.say("provider: scn serve files 80=tcp://127.0.0.1:8080 7=udp://127.0.0.1:7 --allow all")
	if err := s.server.Serve(ctx, "files", "80=tcp://127.0.0.1:8080", "7=udp://127.0.0.1:7"); err != nil {
		return err
	}
	looking := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("files.top was not found in 30 s"))
	defer cancel()
	address, err := s.client.Resolve(bounded, "ip4", "files.top")
	if err != nil {
		return err
	}
	s.say("client: files.top is %s (found in %v)", address, time.Since(looking).Round(time.Millisecond))
	return nil
}
