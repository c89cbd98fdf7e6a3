package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/conformance/reach"
	"scn.alt/scn/conformance/wire"
	"scn.alt/scn/daemon/control"
)

const (
	fileName = "film.bin"
	// price is asked by the provider, cheaper by the discount.
	price   = "1"
	cheaper = "0.4"
	// purse is what the clients are given, budget what the miser may spend of it.
	purse  = "50"
	budget = "0.02"
)

// home is the clients' line: one that a download fills without filling this machine.
var home = wire.Conditions{Delay: 2 * time.Millisecond, Rate: 100_000_000, Queue: 1 << 20}

// stage is everything on it.
type stage struct {
	work                              string
	world                             *reach.World
	rack1, rack2                      *reach.Place
	client, miser, provider, discount *reach.Actor
	server                            *fileServer
	holders                           []holder // of the nodes' own accounts
	began                             time.Time
	failed                            []error // what was not as it has to be
}

func show(ctx context.Context, binary string, size int64, verbose bool) (err error) {
	work, err := os.MkdirTemp("", "scn-pay")
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
	s := &stage{work: work, began: time.Now(), server: &fileServer{}}
	defer s.server.Close()
	if err := s.build(ctx, reach.Config{Lab: lab, Binary: binary, Dir: work}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.world.Close()) }()
	sum, err := overlay.MakeFile(filepath.Join(work, "www", fileName), size)
	if err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{
		s.serve,
		func(ctx context.Context) error { return s.download(ctx, sum, size) },
		s.bill,
		s.compare,
		s.choose,
		s.stopPaying,
		s.leave,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	if err := errors.Join(s.failed...); err != nil {
		return err
	}
	fmt.Printf("\nall as it has to be, in %.0f s\n", time.Since(s.began).Seconds())
	return nil
}

func (s *stage) say(format string, args ...any) {
	fmt.Printf("%5.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// must notes what was not as it has to be, and goes on.
func (s *stage) must(is bool, format string, args ...any) {
	if !is {
		err := fmt.Errorf(format, args...)
		s.say("  NOT SO: %v", err)
		s.failed = append(s.failed, err)
	}
}

// build makes the Internet, the places and the nodes.
func (s *stage) build(ctx context.Context, cfg reach.Config) (err error) {
	starting, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the nodes did not start in a minute"))
	defer cancel()
	s.say("two public nodes; the first keeps the ledger: scn init --new-network lab; scn up")
	if s.world, err = reach.Open(starting, cfg); err != nil {
		return err
	}
	// Short, so that one demo sees an epoch's settlement and a channel's end.
	if _, err := s.world.Founder.Run(starting, "network", "params", "epoch=10s", "close_grace=2s"); err != nil {
		return err
	}
	at := s.world.Place(reach.Public, home)
	s.rack1, s.rack2 = s.world.Place(reach.Public), s.world.Place(reach.Public)
	far := s.world.Place(reach.Public, reach.Delay(20*time.Millisecond))
	s.client, s.miser = s.world.Host("client", at), s.world.Host("miser", at)
	s.provider, s.discount = s.world.Host("provider", s.rack1), s.world.Host("discount", far)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, a := range []struct {
		actor *reach.Actor
		args  []string
	}{
		{s.client, []string{"--pay-budget-per-day", "10", "--pay-deposit", "1", "--pay-policy", "fastest"}},
		{s.miser, []string{"--pay-budget-per-day", budget, "--pay-policy", "cheapest"}},
		{s.provider, nil},
		{s.discount, nil},
	} {
		if a.actor.Node, err = s.world.Network.Join(starting, a.actor.Host); err != nil {
			return err
		}
		s.say("%s at %s: scn up %s", a.actor.Host.Name(), a.actor.Link.Addr4(), strings.Join(a.args, " "))
		wg.Go(func() {
			err := a.actor.Up(starting, a.args...)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, a := range []*reach.Actor{s.client, s.miser} {
		status, err := a.Status(starting)
		if err != nil {
			return err
		}
		if _, err := s.world.Founder.Run(starting, "ledger", "issue", "--to", status.AccountID.String(), "--amount", purse); err != nil {
			return err
		}
	}
	s.say("founder: scn ledger issue: %s credits to each client", purse)
	return nil
}

// serve starts the file server, and gives it a name and a price; beside it the same
// for nothing.
func (s *stage) serve(ctx context.Context) error {
	for _, a := range []*reach.Actor{s.provider, s.discount} {
		if err := s.server.serve(a.Host, "127.0.0.1:8080", filepath.Join(s.work, "www")); err != nil {
			return err
		}
	}
	s.say("provider: scn serve films 80=tcp://127.0.0.1:8080 --allow all; scn price films --per-gib %s", price)
	if err := s.provider.Serve(ctx, "films", "80=tcp://127.0.0.1:8080"); err != nil {
		return err
	}
	if err := s.provider.Serve(ctx, "gifts", "80=tcp://127.0.0.1:8080"); err != nil {
		return err
	}
	if _, err := s.provider.Run(ctx, "price", "films", "--per-gib", price); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the names were not found in 30 s"))
	defer cancel()
	for _, name := range []string{"films.top", "gifts.top"} {
		for _, a := range []*reach.Actor{s.client, s.miser} {
			if _, err := a.Resolve(bounded, "ip4", name); err != nil {
				return err
			}
		}
	}
	return nil
}

// channels are those that a node pays from, or is paid by.
func channels(ctx context.Context, a *reach.Actor, paying bool) ([]control.PayChannel, error) {
	var all, out []control.PayChannel
	if err := a.Read(ctx, &all, "channel", "list", "--json"); err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Paying == paying {
			out = append(out, c)
		}
	}
	return out, nil
}

func account(ctx context.Context, a *reach.Actor, id string) (v control.LedgerAccount, err error) {
	args := []string{"ledger", "account", "--json"}
	if id != "" {
		args = append(args, id)
	}
	return v, a.Read(ctx, &v, args...)
}

// await looks every so often until something is so.
func await(ctx context.Context, what string, limit time.Duration, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not in %v: %s", limit, what))
	defer cancel()
	for {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func megabytes[T ~int64 | ~uint64](n T) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
