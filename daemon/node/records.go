package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/routing"
	"scn.alt/scn/routing/delegate"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

// RecordPort is the port of every node's own service at which it looks records up
// and publishes them for nodes that reach no DHT peer.
const RecordPort = 3

// served gives others this node's way into the DHT, in the terms of the protocol.
type servedRecords struct{ router *routing.Router }

var _ delegate.Records = servedRecords{}

// Find implements delegate.Records.
func (s servedRecords) Find(ctx context.Context, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for value, err := range s.router.Find(ctx, key) {
			if !yield(value, delegateError(err)) {
				return
			}
		}
	}
}

// Store implements delegate.Records.
func (s servedRecords) Store(ctx context.Context, key string, value []byte) error {
	return delegateError(s.router.Store(ctx, key, value))
}

func delegateError(err error) error {
	for _, e := range [][2]error{
		{routing.ErrNotFound, delegate.ErrNotFound},
		{routing.ErrInvalid, delegate.ErrRefused},
		{routing.ErrBusy, delegate.ErrBusy},
	} {
		if errors.Is(err, e[0]) {
			return fmt.Errorf("%w: %w", e[1], err)
		}
	}
	return err
}

// openRecords makes the server of records.
func (n *Node) openRecords() (err error) {
	n.records, err = delegate.NewServer(servedRecords{n.router}, delegate.ServerConfig{Logger: n.log.With("layer", "routing")})
	return err
}

// serveRecords answers until ctx ends.
func (n *Node) serveRecords(ctx context.Context) error {
	l, err := n.sal.Listen(identity.ServiceOf(n.ID()), RecordPort)
	if err != nil {
		return fmt.Errorf("record service: %w", err)
	}
	return n.records.Serve(ctx, l)
}

// Records returns the server of records.
func (n *Node) Records() *delegate.Server { return n.records }

// recordDelegate is what this node's router asks where the DHT does not answer: a
// relay or bootstrap node this node can speak to.
type recordDelegate struct{ n *Node }

var _ routing.Delegate = recordDelegate{}

const (
	// maxDelegates is how many nodes are tried for one request.
	maxDelegates = 4
	// delegateStagger is what one of them has before the next is tried beside it.
	delegateStagger = 400 * time.Millisecond
)

// Get implements routing.Delegate.
func (d recordDelegate) Get(ctx context.Context, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		session, err := d.dial(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for value, err := range delegate.Get(ctx, session, key) {
			if !yield(value, routingError(err)) {
				return
			}
		}
	}
}

// Put implements routing.Delegate.
func (d recordDelegate) Put(ctx context.Context, key string, value []byte) error {
	session, err := d.dial(ctx)
	if err != nil {
		return err
	}
	return routingError(delegate.Put(ctx, session, key, value))
}

func routingError(err error) error {
	if errors.Is(err, delegate.ErrNotFound) {
		return fmt.Errorf("%w: %w", routing.ErrNotFound, err)
	}
	return err
}

// dial opens a session to the first of the nodes that answers.
func (d recordDelegate) dial(ctx context.Context) (net.Conn, error) {
	sessions := d.n.clock.Load()
	if sessions == nil {
		return nil, routing.ErrNoPeers // not up yet
	}
	nodes := d.nodes(sessions)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		session net.Conn
		err     error
	}
	results := make(chan result, len(nodes))
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel() // before the wait
	for i, id := range nodes {
		dials.Go(func() {
			timer := time.NewTimer(time.Duration(i) * delegateStagger)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				results <- result{nil, ctx.Err()}
				return
			}
			session, err := sessions.DialNode(ctx, id, RecordPort)
			if err != nil {
				results <- result{nil, err}
				return
			}
			results <- result{session, nil}
		})
	}
	var first net.Conn
	err := routing.ErrNoPeers
	for range nodes {
		r := <-results
		switch {
		case r.err != nil:
			err = errors.Join(err, r.err)
		case first == nil:
			first = r.session
			cancel()
		default:
			_ = r.session.Close()
		}
	}
	if first != nil {
		return first, nil
	}
	return nil, err
}

// nodes are whom to ask: the relays at which this node is registered, its home
// relays first, then bootstrap nodes, those before the others with which there is a
// connection.
func (d recordDelegate) nodes(sessions *sal.Node) []identity.NodeID {
	connected := map[identity.NodeID]bool{}
	for _, p := range sessions.Peers() {
		connected[p.Node] = p.Remote.IsValid()
	}
	var out, others []identity.NodeID
	for _, r := range sessions.Relays() {
		if connected[r.Node] {
			out = append(out, r.Node)
		}
	}
	for _, b := range d.n.Network().Bootstrap {
		switch {
		case b.Node == d.n.ID(), slices.Contains(out, b.Node):
		case connected[b.Node]:
			out = append(out, b.Node)
		default:
			others = append(others, b.Node)
		}
	}
	out = append(out, others...)
	return out[:min(len(out), maxDelegates)]
}
