package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/daemon/control"
)

const (
	// between is the quiet between two scenes, and after the last.
	between = 5 * time.Second
	// settled is how long after the switch the packets around it must be answered.
	settled = 2 * time.Second
	// patience is how long a scene may take to get a direct way.
	patience = 20 * time.Second
)

// event is one scene and what it cost.
type event struct {
	name    string
	from    time.Time // when what happened was complete
	until   time.Time
	silence time.Duration
	heard   bool
	stall   time.Duration
	first   overlay.Sighting // how the peer was reached at first, afterwards
	relayed bool             // whether it was through a relay meanwhile
	direct  time.Duration    // until it was direct, below 0: never
}

// players are what play has at hand.
type players struct {
	echo     *overlay.Echo
	watch    *overlay.Watch
	download *overlay.Download
}

// play downloads the file while everything moves, and prints what happened.
func (s *stage) play(ctx context.Context, sum string, size int64) (err error) {
	p := players{watch: s.client.Watch(5 * time.Millisecond)}
	defer func() { err = errors.Join(err, p.watch.Close()) }()
	url := "http://files.top/" + fileName
	s.say("client: curl %s, %d MB at %d MiB/s; beside it a UDP echo every %v", url, size/1_000_000, overlay.Rate>>20, overlay.Interval)
	dialled := time.Now()
	if p.download, err = overlay.StartDownload(ctx, s.client.Host, url); err != nil {
		return err
	}
	if p.echo, err = overlay.StartEcho(ctx, s.client.Host, "files.top:7"); err != nil {
		return err
	}
	defer p.echo.Close()
	start, err := s.begins(ctx, p, dialled)
	if err != nil {
		return err
	}
	events := []event{start}
	for _, scene := range []struct {
		name string
		play func()
	}{
		{"both move to other NATs at once", s.bothMove},
		{"the provider's NAT gives other ports", s.rebinds},
	} {
		scene.play()
		e := event{name: scene.name, from: time.Now()}
		s.say("%s: client at %s, provider at %s", scene.name, s.client.Place.Kind, s.server.Place.Kind)
		if err := s.follow(ctx, p, &e); err != nil {
			return err
		}
		s.say("  silence %s, direct again after %s, %d MB downloaded", gap(e.silence, e.heard), directAfter(e), p.download.Size()/1_000_000)
		events = append(events, e)
	}
	got, ended := p.download.Wait()
	s.say("client: curl has ended")
	s.table(events)
	fmt.Printf("\nsent      SHA-256 %s, %d bytes\nreceived  SHA-256 %s, %d bytes\n", sum, size, got, p.download.Size())
	if ended != nil {
		return fmt.Errorf("curl: %w", ended)
	}
	if got != sum {
		return errors.New("the file did not arrive as it was sent")
	}
	for _, e := range events {
		if !e.heard {
			return fmt.Errorf("nothing was heard again after: %s", e.name)
		}
		if e.direct < 0 {
			return fmt.Errorf("the way did not become direct in %v: %s", patience, e.name)
		}
	}
	if !start.relayed {
		return errors.New("the session did not begin through a relay")
	}
	fmt.Printf("equal: one connection, one request, in %.0f s\n", time.Since(s.began).Seconds())
	return nil
}

// begins follows the session from the relay to the direct way.
func (s *stage) begins(ctx context.Context, p players, dialled time.Time) (event, error) {
	e := event{name: "the session begins", from: dialled}
	bounded, cancel := context.WithTimeoutCause(ctx, patience, errors.New("no byte came"))
	defer cancel()
	for {
		if _, ok := p.download.First(); ok {
			break
		}
		if err := pause(bounded, time.Millisecond); err != nil {
			return e, err
		}
	}
	if err := s.follow(ctx, p, &e); err != nil {
		return e, err
	}
	first, _ := p.download.First()
	s.say("  first byte after %s; %s", gap(first.Sub(dialled), true), describe(e.first))
	if e.direct < 0 {
		return e, nil
	}
	change := dialled.Add(e.direct)
	s.say("  direct after %s", directAfter(e))
	// The echo's first packets wait for the session; those that count begin with
	// the first answer, for which follow has waited.
	from := change.Add(-e.direct / 2)
	sent, lost := p.echo.Lost(from, change.Add(settled))
	s.say("  of the %d packets of the echo from %s before the switch until %v after it, %d were lost", sent, gap(change.Sub(from), true), settled, lost)
	if lost > 0 {
		return e, fmt.Errorf("%d packets were lost to the switch from the relay to the direct way", lost)
	}
	return e, nil
}

// follow waits until the way is direct, and settled thereafter, and measures.
func (s *stage) follow(ctx context.Context, p players, e *event) error {
	e.direct = -1
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, heard := p.echo.Silence(e.from); heard {
			if at, ok := p.watch.Direct(s.server.ID, e.from); ok {
				e.direct = at.Sub(e.from)
				break
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if err := pause(ctx, between); err != nil {
		return err
	}
	e.until = time.Now()
	e.silence, e.heard = p.echo.SilenceBetween(e.from, e.until)
	e.stall = p.download.Stall(e.from, e.until)
	for _, sight := range p.watch.Sightings(s.server.ID) {
		if sight.At.Before(e.from) || sight.At.After(e.until) {
			continue
		}
		if e.first.At.IsZero() {
			e.first = sight
		}
		e.relayed = e.relayed || sight.Path.Way == control.Relayed
	}
	return nil
}

// bothMove moves both to other NATs, neither of which knows them.
func (s *stage) bothMove() {
	var wg sync.WaitGroup
	wg.Go(func() { s.client.Move(s.cafe) })
	wg.Go(func() { s.server.Move(s.office) })
	wg.Wait()
}

// rebinds takes every mapping from the provider's NAT.
func (s *stage) rebinds() { s.office.Rebind() }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
