package reach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/routing/identity"
)

// RelayingConfig configures Relaying.
type RelayingConfig struct {
	// Rounds is how often each is measured, in turns. Default 3.
	Rounds int
	// Length is how long one measurement is. Default 4s.
	Length time.Duration
	// FloodRate is how many packets a second the strangers send. Default 10,000.
	FloodRate int
}

// Relaying is what a relay costs and bears: TCP streams through TUN devices, in
// Mb/s, medians.
type Relaying struct {
	// Direct and Relayed are of two pairs of hosts alike, one of which can reach
	// each other only by the relay.
	Direct, Relayed float64
	// Calm is a customer's stream at the pace of an access line of 100 Mb/s while
	// strangers flood a neighbour of the relay, Flooded while they flood the relay:
	// the machine does the same work for both floods.
	Calm, Flooded float64
	// CalmFast and FloodedFast are the same without a pace: everything shares this
	// machine's processors.
	CalmFast, FloodedFast float64
	// Flood is how many packets the strangers sent to the relay.
	Flood int
}

// Relaying measures streams through the relay.
func (w *World) Relaying(ctx context.Context, cfg RelayingConfig) (r Relaying, err error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 3
	}
	if cfg.Length == 0 {
		cfg.Length = 4 * time.Second
	}
	if cfg.FloodRate == 0 {
		cfg.FloodRate = 10_000
	}
	places := make([]*Place, 4)
	hosts := make([]*Actor, 4)
	for i, name := range []string{"sender", "receiver", "customer", "vendor"} {
		places[i] = w.Place(Public)
		hosts[i] = w.Host(name, places[i])
	}
	w.Internet.Block(places[2].Public.String(), places[3].Public.String())
	if err := w.Join(ctx, hosts...); err != nil {
		return r, err
	}
	for _, pair := range [][2]*Actor{{hosts[0], hosts[1]}, {hosts[2], hosts[3]}} {
		if err := pair[1].Host.Command(context.WithoutCancel(ctx), "iperf3", "-s", "-p", "5201").Start(); err != nil {
			return r, err
		}
		name := pair[1].Host.Name()
		if err := pair[1].Serve(ctx, name, "5201=tcp://127.0.0.1:5201"); err != nil {
			return r, err
		}
		if _, err := pair[0].Resolve(ctx, "ip4", name+".top"); err != nil {
			return r, err
		}
	}
	stream := func(client *Actor, name string, into *[]float64, options ...string) error {
		rate, err := iperf(ctx, client, name+".top", cfg.Length, options...)
		*into = append(*into, rate)
		return err
	}
	var direct, relayed []float64
	for range cfg.Rounds {
		if err := stream(hosts[0], "receiver", &direct); err != nil {
			return r, fmt.Errorf("direct: %w", err)
		}
		if err := stream(hosts[2], "vendor", &relayed); err != nil {
			return r, fmt.Errorf("relayed: %w", err)
		}
	}
	r.Direct, r.Relayed = median(direct), median(relayed)
	for _, c := range []struct {
		client, provider *Actor
		relayed          bool
	}{{hosts[0], hosts[1], false}, {hosts[2], hosts[3], true}} {
		if err := c.client.through(ctx, c.provider.ID, c.relayed); err != nil {
			return r, err
		}
	}
	return r, w.flooding(ctx, cfg, &r, hosts)
}

// flooding measures the relayed pair while strangers flood the relay, and, for
// comparison, while they flood a host that reads nothing.
func (w *World) flooding(ctx context.Context, cfg RelayingConfig, r *Relaying, hosts []*Actor) error {
	mob := w.Lab.Host("mob")
	mob.Attach(w.core, 6)
	decoy := w.Lab.Host("decoy")
	decoy.Attach(w.core, 7)
	deafSocket, err := decoy.ListenPacket("udp4", fmt.Sprintf(":%d", overlay.Port))
	if err != nil {
		return err
	}
	defer deafSocket.Close()
	var nodes []identity.NodeID
	for _, h := range hosts {
		var id identity.NodeID
		if err := id.UnmarshalText([]byte(h.ID)); err != nil {
			return err
		}
		nodes = append(nodes, id)
	}
	f, err := newFlood(ctx, mob, nodes...)
	if err != nil {
		return err
	}
	defer f.close()
	relayAt, err := w.relayOf(ctx, hosts[2], hosts[3].ID)
	if err != nil {
		return err
	}
	decoyAt := netip.AddrPortFrom(w.coreAddress(7), overlay.Port)
	var rates [4][]float64
	for range cfg.Rounds {
		for i, c := range []struct {
			to      netip.AddrPort
			options []string
		}{{decoyAt, []string{"-b", "100M"}}, {relayAt, []string{"-b", "100M"}}, {decoyAt, nil}, {relayAt, nil}} {
			f.start(c.to, cfg.FloodRate)
			rate, err := iperf(ctx, hosts[2], "vendor.top", cfg.Length, c.options...)
			sent := f.end()
			if c.to == relayAt {
				r.Flood += sent
			}
			if err != nil {
				return fmt.Errorf("under a flood: %w", err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	r.Calm, r.Flooded = median(rates[0]), median(rates[1])
	r.CalmFast, r.FloodedFast = median(rates[2]), median(rates[3])
	return nil
}

// through checks that a pair is connected the way it is measured for.
func (a *Actor) through(ctx context.Context, peer string, relayed bool) error {
	s, err := a.Status(ctx)
	if err != nil {
		return err
	}
	for _, p := range s.Peers {
		if p.NodeID.String() == peer {
			if (p.Path.Way == control.Relayed) != relayed {
				return fmt.Errorf("reach: %s reaches its peer by %+v, want it relayed: %v", a.Host.Name(), p.Path, relayed)
			}
			return nil
		}
	}
	return errors.New("reach: the peer is not in the status of " + a.Host.Name())
}

// relayOf returns the address of the relay between two nodes.
func (w *World) relayOf(ctx context.Context, a *Actor, peer string) (netip.AddrPort, error) {
	s, err := a.Status(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, p := range s.Peers {
		if p.NodeID.String() != peer || p.Path.Relay == nil {
			continue
		}
		for _, r := range []*Actor{w.Founder, w.Second} {
			if r.ID == p.Path.Relay.String() {
				return netip.AddrPortFrom(r.Link.Addr4(), overlay.Port), nil
			}
		}
	}
	return netip.AddrPort{}, errors.New("reach: no relay between the two")
}

// iperf is one TCP stream of iperf3, in Mb/s as received.
func iperf(ctx context.Context, client *Actor, host string, length time.Duration, options ...string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length+30*time.Second)
	defer cancel()
	args := append([]string{"-c", host, "-p", "5201", "-t", strconv.Itoa(int(length / time.Second)), "-O", "1", "--json"}, options...)
	out, err := client.Host.Command(ctx, "iperf3", args...).Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, err
	}
	return report.End.Received.Rate / 1e6, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
