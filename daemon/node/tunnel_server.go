package node

import (
	"context"

	"scn.alt/scn/sal/tunnel"
)

// openTunnelServer takes tunnels where the configuration says so. A port that cannot
// be had is no reason not to start: UDP does without.
func (n *Node) openTunnelServer() {
	if n.cfg.TunnelListen == "" {
		return
	}
	s, err := tunnel.Listen(tunnel.ServerConfig{
		Listen: n.cfg.TunnelListen, Target: loopbackOf(n.cfg.Listen), Logger: n.log.With("layer", "tunnel"),
	})
	if err != nil {
		n.tunnelFault = err.Error()
		n.log.Warn("no tunnels for nodes without UDP: the relay's TCP port cannot be had", "err", err)
		return
	}
	n.tunnelServer = s
}

// serveTunnels runs the server of tunnels until ctx ends.
func (n *Node) serveTunnels(ctx context.Context) error {
	if err := n.tunnelServer.Run(ctx); err != nil {
		n.log.Error("tunnels are not served any more", "err", err)
	}
	return nil
}

// TunnelFault says why this node takes no tunnels although it should; empty when
// nothing is wrong.
func (n *Node) TunnelFault() string { return n.tunnelFault }

// TunnelMetrics are the counters of tunnels, taken and made.
type TunnelMetrics struct{ Server, Client tunnel.Metrics }

// TunnelMetrics returns a snapshot.
func (n *Node) TunnelMetrics() TunnelMetrics {
	m := TunnelMetrics{Client: n.tunnels.metrics()}
	if n.tunnelServer != nil {
		m.Server = n.tunnelServer.Metrics()
	}
	return m
}

func (t *tunnels) metrics() tunnel.Metrics {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.past
	for _, e := range t.open {
		m = m.Add(e.client.Metrics())
	}
	return m
}
