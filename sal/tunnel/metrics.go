package tunnel

import "sync/atomic"

// Metrics are counters since the start, and gauges of now.
type Metrics struct {
	// Tunnels are open now.
	Tunnels int
	// Conns are TCP connections open at a server, tunnels included.
	Conns int
	// Opened counts tunnels, Failed attempts of a client that came to nothing.
	Opened, Failed uint64
	// RefusedConns counts connections a server closed because there were too many,
	// RefusedRequests those that asked for something else than a tunnel.
	RefusedConns, RefusedRequests uint64
	// Datagrams and bytes out of the tunnels, and into them.
	Received, Sent           uint64
	ReceivedBytes, SentBytes uint64
	// Dropped counts datagrams that a tunnel was too slow for.
	Dropped uint64
	// Oversize counts datagrams too large for a message, and messages too large for
	// a datagram or of another kind; the latter end their tunnel.
	Oversize uint64
}

// Add returns the sum of two snapshots.
func (m Metrics) Add(o Metrics) Metrics {
	m.Tunnels += o.Tunnels
	m.Conns += o.Conns
	m.Opened += o.Opened
	m.Failed += o.Failed
	m.RefusedConns += o.RefusedConns
	m.RefusedRequests += o.RefusedRequests
	m.Received += o.Received
	m.Sent += o.Sent
	m.ReceivedBytes += o.ReceivedBytes
	m.SentBytes += o.SentBytes
	m.Dropped += o.Dropped
	m.Oversize += o.Oversize
	return m
}

// counters are Metrics' own, counted where things happen.
type counters struct {
	tunnels                       atomic.Int64
	opened, failed                atomic.Uint64
	refusedConns, refusedRequests atomic.Uint64
	received, sent                atomic.Uint64
	receivedBytes, sentBytes      atomic.Uint64
	dropped, oversize             atomic.Uint64
}

func (c *counters) snapshot() Metrics {
	return Metrics{
		Tunnels: int(c.tunnels.Load()),
		Opened:  c.opened.Load(), Failed: c.failed.Load(),
		RefusedConns: c.refusedConns.Load(), RefusedRequests: c.refusedRequests.Load(),
		Received: c.received.Load(), Sent: c.sent.Load(),
		ReceivedBytes: c.receivedBytes.Load(), SentBytes: c.sentBytes.Load(),
		Dropped: c.dropped.Load(), Oversize: c.oversize.Load(),
	}
}
