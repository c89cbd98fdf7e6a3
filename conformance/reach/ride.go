package reach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/conformance/wire"
)

// RideConfig configures a ride. The zero value is ten minutes.
type RideConfig struct {
	// Seed fixes what happens. Default 1.
	Seed uint64
	// Duration is how long the ride is. Default 10m.
	Duration time.Duration
	// Dir is for keys and settings of the programs. Required.
	Dir string
	// Say is told what happens, if set.
	Say func(format string, args ...any)
}

// Ride is how a train's sessions fared.
type Ride struct {
	Modems int
	// Handovers, Bursts and Tunnels are what happened to it.
	Handovers, Bursts, Tunnels int
	// Silences are those of the 2 ms echo that lasted at least 10 ms.
	Silences []time.Duration
	// TickerSent and TickerLost are packets of that echo, StreamSent and StreamLost
	// of the stream of 50 kB/s.
	TickerSent, TickerLost, StreamSent, StreamLost int
	// Lines is how many lines the shell answered, Messages how many came from the
	// broker; Slowest is the longest a line took.
	Lines, Messages int
	Slowest         time.Duration
	// Err is what did not survive, nil when all did.
	Err error
}

// train is a host with one or two modems.
type train struct {
	*Actor
	ride  *Ride
	cells [][]*Place // by modem and network
	links []*netns.Link
	at    []int // the network each modem is on
	loss  []float64
	dark  bool // in a tunnel

	programs *programs
	ticker   *overlay.Echo
	stream   *overlay.Echo
}

// The air between a modem and its network, at its best.
var air = wire.Conditions{Delay: 15 * time.Millisecond, Jitter: 5 * time.Millisecond}

// Ride lets two trains, one with one modem and one with two, go through the same
// trace at the same time. Their sessions are with a provider in an office behind a
// NAT: a shell, a subscription at a broker, a UDP stream, and the ticker.
func (w *World) Ride(ctx context.Context, cfg RideConfig) (rides []*Ride, err error) {
	if cfg.Seed == 0 {
		cfg.Seed = 1
	}
	if cfg.Duration == 0 {
		cfg.Duration = 10 * time.Minute
	}
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	office := w.Host("depot", w.Place(PortRestricted, Delay(5*time.Millisecond)))
	trains := []*train{w.train(1), w.train(2)}
	if err := w.Join(ctx, office, trains[0].Actor, trains[1].Actor); err != nil {
		return nil, err
	}
	served, err := w.servePrograms(ctx, office, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer served.close()
	for _, t := range trains {
		if err := t.board(ctx, served); err != nil {
			return nil, err
		}
		defer t.leave()
		rides = append(rides, t.ride)
	}
	began := time.Now()
	cfg.Say("%v of a train, one with one modem and one with two", cfg.Duration)
	for _, step := range w.atoms(Trace(cfg.Seed, cfg.Duration)) {
		if err := pause(ctx, time.Until(began.Add(step.At))); err != nil {
			return rides, err
		}
		cfg.Say("%6.1f s %s", time.Since(began).Seconds(), step.text)
		for _, t := range trains {
			if step.modem < len(t.links) {
				step.play(t)
			}
		}
	}
	if err := pause(ctx, time.Until(began.Add(cfg.Duration))); err != nil {
		return rides, err
	}
	for _, t := range trains {
		t.arrive(ctx, began, began.Add(cfg.Duration))
	}
	return rides, nil
}

// train builds the host and its networks, each of another kind.
func (w *World) train(modems int) *train {
	t := &train{ride: &Ride{Modems: modems}, loss: make([]float64, modems), at: make([]int, modems)}
	t.Actor = &Actor{Host: w.Lab.Host(fmt.Sprintf("train%d", modems))}
	for m := range modems {
		cells := make([]*Place, 0, NetworksPerModem)
		for _, k := range [NetworksPerModem]Kind{CarrierAndHome, PortRestricted, CarrierAndHome, Symmetric} {
			p := w.Place(k, air)
			p.SetUDPTimeout(UDPTimeout)
			p.Rebind()        // the train comes back under other private addresses
			p.hosts = 100 * m // two modems get two addresses, if in subnets alike
			cells = append(cells, p)
		}
		t.cells = append(t.cells, cells)
		t.links = append(t.links, t.Host.Attach(cells[0].LAN, cells[0].next()))
	}
	t.Link, t.Place = t.links[0], t.cells[0][0]
	return t
}

// atom is a change at one moment.
type atom struct {
	At    time.Duration
	modem int
	text  string
	play  func(*train)
}

// atoms turns steps into changes: what lasts has an end.
func (w *World) atoms(steps []Step) []atom {
	var list []atom
	for _, s := range steps {
		switch s.What {
		case Handover:
			list = append(list, atom{s.At, s.Modem, fmt.Sprintf("modem %d: network %d", s.Modem, s.Network), func(t *train) {
				t.ride.Handovers++
				t.handover(s.Modem, s.Network)
			}})
		case Burst:
			list = append(list, atom{s.At, s.Modem, fmt.Sprintf("modem %d: %.0f %% loss for %v", s.Modem, s.Loss*100, round(s.Lasts)), func(t *train) {
				t.ride.Bursts++
				t.loss[s.Modem] = s.Loss
				t.air(s.Modem)
			}})
			list = append(list, atom{s.At + s.Lasts, s.Modem, fmt.Sprintf("modem %d: no loss", s.Modem), func(t *train) {
				t.loss[s.Modem] = 0
				t.air(s.Modem)
			}})
		case Tunnel:
			list = append(list, atom{s.At, 0, fmt.Sprintf("a tunnel of %v", s.Lasts), func(t *train) {
				t.ride.Tunnels++
				t.tunnel(true)
			}})
			list = append(list, atom{s.At + s.Lasts, 0, "out of the tunnel", func(t *train) {
				t.tunnel(false)
			}})
		}
	}
	slices.SortStableFunc(list, func(a, b atom) int { return int(a.At - b.At) })
	return list
}

// handover takes a modem to another network, with the air as it is now.
func (t *train) handover(modem, network int) {
	t.at[modem] = network
	p := t.cells[modem][network]
	t.air(modem)
	t.links[modem].Move(p.LAN, p.next())
}

// tunnel takes the train into one, or out.
func (t *train) tunnel(dark bool) {
	t.dark = dark
	for m := range t.links {
		t.air(m)
	}
}

// air sets the conditions between a modem and its network.
func (t *train) air(modem int) {
	c := air
	c.Loss, c.Blackout = t.loss[modem], t.dark
	// The conditions are valid by construction.
	_ = t.cells[modem][t.at[modem]].Wire.Set(c, c)
}

// board starts everything whose survival counts.
func (t *train) board(ctx context.Context, served *served) (err error) {
	if _, err := t.Resolve(ctx, "ip4", "depot.top"); err != nil {
		return err
	}
	if t.ticker, err = overlay.StartEcho(ctx, t.Host, "depot.top:7"); err != nil {
		return err
	}
	// 1,000 bytes every 20 ms are 50 kB/s.
	if t.stream, err = overlay.StartStream(ctx, t.Host, "depot.top:7", 20*time.Millisecond, 1000); err != nil {
		return err
	}
	if t.programs, err = served.start(ctx, t.Actor); err != nil {
		return err
	}
	settle, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the ticker does not begin"))
	defer cancel()
	return t.ticker.Settle(settle, 300*time.Millisecond)
}

// arrive asks everything for a last sign of life and counts.
func (t *train) arrive(ctx context.Context, since, until time.Time) {
	r := t.ride
	last, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the ticker is silent in the end"))
	defer cancel()
	_, ticking := t.ticker.Recovered(last, time.Now(), 300*time.Millisecond)
	_, streaming := t.stream.Recovered(last, time.Now(), 300*time.Millisecond)
	r.Err = errors.Join(ticking, streaming, t.programs.end(r))
	r.Silences = t.ticker.Silences(since, until, 10*time.Millisecond)
	r.TickerSent, r.TickerLost = t.ticker.Lost(since, until)
	r.StreamSent, r.StreamLost = t.stream.Lost(since, until)
}

func (t *train) leave() {
	t.programs.close()
	for _, e := range []*overlay.Echo{t.ticker, t.stream} {
		_ = e.Close()
	}
}

// buckets are the bounds of a histogram of silences.
var buckets = [...]time.Duration{
	10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second,
}

// Histogram returns how many silences there were from each bound to the next, and
// the sum of those that lasted 100 ms and more: what a user notices.
func (r *Ride) Histogram() (bounds []time.Duration, counts []int, noticed time.Duration) {
	counts = make([]int, len(buckets))
	for _, s := range r.Silences {
		for i := len(buckets) - 1; i >= 0; i-- {
			if s >= buckets[i] {
				counts[i]++
				break
			}
		}
		if s >= 100*time.Millisecond {
			noticed += s
		}
	}
	return buckets[:], counts, noticed
}
