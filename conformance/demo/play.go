package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"scn.alt/scn/conformance/overlay"
)

const (
	between  = 5 * time.Second  // of quiet between two events, and after the last
	blackout = 20 * time.Second // without any network
	apart    = 50 * time.Millisecond
)

// event is one scene and what it cost.
type event struct {
	name    string
	where   string
	usable  time.Time // from when on the new address, or the network, is usable
	silence time.Duration
	heard   bool
	stall   time.Duration
}

// play downloads the file while everything moves, and prints what happened.
func (s *stage) play(ctx context.Context, sum string, size int64) error {
	echo, err := overlay.StartEcho(ctx, s.client.host, "files.top:7")
	if err != nil {
		return err
	}
	defer echo.Close()
	url := "http://files.top/" + fileName
	s.say("client: curl %s, %d MB at %d MiB/s; beside it a UDP echo every %v", url, size/1_000_000, overlay.Rate>>20, overlay.Interval)
	transfer, err := overlay.StartDownload(ctx, s.client.host, url)
	if err != nil {
		return err
	}
	if err := pause(ctx, between); err != nil {
		return err
	}
	quiet, _ := echo.Silence(time.Now().Add(-between / 2))
	events := []event{{name: "at rest", where: "—", silence: quiet, heard: true, stall: transfer.Stall(time.Now().Add(-between/2), time.Now())}}
	for _, scene := range []func(context.Context) (event, error){s.clientMoves, s.providerMoves, s.bothMove, s.nothingWorks} {
		e, err := scene(ctx)
		if err != nil {
			return err
		}
		if err := pause(ctx, between); err != nil {
			return err
		}
		now := time.Now()
		e.silence, e.heard = echo.SilenceBetween(e.usable, now)
		e.stall = transfer.Stall(e.usable, now)
		s.say("  %s: silence %s, %d MB downloaded", e.name, gap(e.silence, e.heard), transfer.Size()/1_000_000)
		events = append(events, e)
	}
	got, err := transfer.Wait()
	s.say("client: curl has ended")
	s.table(ctx, events)
	fmt.Printf("\nsent      SHA-256 %s, %d bytes\nreceived  SHA-256 %s, %d bytes\n", sum, size, got, transfer.Size())
	if err != nil {
		return fmt.Errorf("curl: %w", err)
	}
	if got != sum {
		return errors.New("the file did not arrive as it was sent")
	}
	for _, e := range events {
		if !e.heard {
			return fmt.Errorf("nothing was heard again after: %s", e.name)
		}
	}
	fmt.Printf("equal: one connection, one request, four moves and %v without a network, in %.0f s\n", blackout, time.Since(s.began).Seconds())
	return nil
}

func (s *stage) clientMoves(context.Context) (event, error) {
	s.client.link.Move(s.net.LANs[cafe], 20)
	e := event{name: "client moves", where: s.client.link.Addr4().String(), usable: time.Now()}
	s.say("client moves to %s", e.where)
	return e, nil
}

func (s *stage) providerMoves(context.Context) (event, error) {
	s.server.link.Move(s.net.LANs[rack2], 20)
	e := event{name: "provider moves", where: s.server.link.Addr4().String(), usable: time.Now()}
	s.say("provider moves to %s", e.where)
	return e, nil
}

// bothMove moves both within 50 ms: the second leaves before it can hear where
// the first went.
func (s *stage) bothMove(ctx context.Context) (event, error) {
	var wg sync.WaitGroup
	wg.Go(func() { s.client.link.Move(s.net.LANs[home], 30) })
	wg.Go(func() { s.server.link.Move(s.net.LANs[rack1], 30) })
	began := time.Now()
	wg.Wait()
	e := event{name: "both move", where: fmt.Sprintf("%s, %s", s.client.link.Addr4(), s.server.link.Addr4()), usable: time.Now()}
	if took := e.usable.Sub(began); took > apart {
		s.say("(this machine is busy: the two moves are %v apart)", took.Round(time.Millisecond))
	}
	s.say("both move: client to %s, provider to %s", s.client.link.Addr4(), s.server.link.Addr4())
	return e, ctx.Err()
}

// nothingWorks cuts every host from the network.
func (s *stage) nothingWorks(ctx context.Context) (event, error) {
	s.say("no network at all, for %v", blackout)
	for _, port := range s.net.Ports {
		port.Cut()
	}
	err := pause(ctx, blackout)
	for _, port := range s.net.Ports {
		port.Mend()
	}
	e := event{name: "20 s of no network", where: "unchanged", usable: time.Now()}
	s.say("the network is back")
	return e, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
