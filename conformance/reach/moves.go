package reach

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/conformance/overlay"
)

// MoveConfig configures BothMove.
type MoveConfig struct {
	// Moves is how many there are. Default 10.
	Moves int
	// Kind is what both are behind, before and after. Default Public.
	Kind Kind
	// Delay is the way between the two, each way; half of it is on either uplink.
	// Default 20ms.
	Delay time.Duration
}

// Silences are how long a 2 ms UDP echo was silent.
type Silences struct {
	// Moves are the longest silences after each move, from when both new addresses
	// are usable; sorted. Rest is the median of the longest silence in as much time
	// before the moves: that is the machine's.
	Moves []time.Duration
	Rest  time.Duration
}

// Percentile returns the silence that p percent of the moves stay within.
func (s Silences) Percentile(p int) time.Duration {
	if len(s.Moves) == 0 {
		return 0
	}
	return s.Moves[min(len(s.Moves)*p/100, len(s.Moves)-1)]
}

// BothMove moves both ends of a session at once, again and again, each between
// two places of its own, and never to an address it had before.
func (w *World) BothMove(ctx context.Context, cfg MoveConfig) (s Silences, err error) {
	if cfg.Moves == 0 {
		cfg.Moves = 10
	}
	if cfg.Delay == 0 {
		cfg.Delay = 20 * time.Millisecond
	}
	var places [2][2]*Place
	var ends [2]*Actor
	for i, name := range []string{"roamer", "haven"} {
		for j := range places[i] {
			places[i][j] = w.Place(cfg.Kind, Delay(cfg.Delay/2))
			places[i][j].Rebind() // many hosts will use one port of it
		}
		ends[i] = w.Host(name, places[i][0])
	}
	if err := w.Join(ctx, ends[0], ends[1]); err != nil {
		return s, err
	}
	echo, err := w.echo(ctx, ends[0], ends[1], "haven")
	if err != nil {
		return s, err
	}
	defer echo.Close()
	var rests []time.Duration
	for n := range cfg.Moves {
		// As much as it takes to get a direct way again, so that each move starts
		// from the same state.
		if err := pause(ctx, time.Second); err != nil {
			return s, err
		}
		rest, _ := echo.Silence(time.Now().Add(-300 * time.Millisecond))
		rests = append(rests, rest)
		var wg sync.WaitGroup
		for i := range ends {
			wg.Go(func() { ends[i].Move(places[i][1-n%2]) })
		}
		wg.Wait()
		silence, err := recovered(ctx, echo, time.Now())
		if err != nil {
			return s, fmt.Errorf("move %d: %w", n, err)
		}
		s.Moves = append(s.Moves, silence)
	}
	slices.Sort(s.Moves)
	slices.Sort(rests)
	s.Rest = rests[len(rests)/2]
	return s, nil
}

// recovered waits until the echo is back and returns its longest silence.
func recovered(ctx context.Context, echo *overlay.Echo, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("the echo does not come back"))
	defer cancel()
	return echo.Recovered(ctx, since, 300*time.Millisecond)
}

// echo serves a UDP echo by name and starts one from the client, steady.
func (w *World) echo(ctx context.Context, client, provider *Actor, name string) (*overlay.Echo, error) {
	if err := w.ServeEcho(provider.Host, "127.0.0.1:7"); err != nil {
		return nil, err
	}
	if err := provider.Serve(ctx, name, "7=udp://127.0.0.1:7"); err != nil {
		return nil, err
	}
	if _, err := client.Resolve(ctx, "ip4", name+".top"); err != nil {
		return nil, err
	}
	echo, err := overlay.StartEcho(ctx, client.Host, name+".top:7")
	if err != nil {
		return nil, err
	}
	settle, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("the echo of %s does not begin", name))
	defer cancel()
	if err := echo.Settle(settle, 300*time.Millisecond); err != nil {
		_ = echo.Close()
		return nil, err
	}
	return echo, nil
}
