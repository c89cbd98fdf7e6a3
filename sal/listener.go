package sal

import (
	"context"
	"net"
	"sync"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// listenBacklog is how many accepted sessions wait for Accept, as somaxconn once
// was: more are refused as over capacity.
const listenBacklog = 128

// Listener accepts the stream sessions of one port of a service. It implements
// net.Listener; what Accept returns is a *Conn.
type Listener struct {
	*backlog[*Conn]
}

var _ net.Listener = Listener{}

// PacketListener accepts the packet sessions of one port of a service.
type PacketListener struct {
	*backlog[*PacketConn]
}

// backlog is the queue of a listener.
type backlog[T net.Conn] struct {
	node  *Node
	addr  Addr
	key   portKey
	queue chan T
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex // guards below; held while something is put into queue
	closed bool
}

// Listen accepts the stream sessions of one port of a service. It takes
// precedence over Handle. Who may open them is the Authorizer's business.
func (n *Node) Listen(service identity.ServiceID, port uint16) (net.Listener, error) {
	b, err := listen[*Conn](n, service, portKey{port, record.TCP}, (*Incoming).Accept)
	if err != nil {
		return nil, err
	}
	return Listener{b}, nil
}

// ListenPacket accepts the packet sessions of one port of a service.
func (n *Node) ListenPacket(service identity.ServiceID, port uint16) (*PacketListener, error) {
	b, err := listen[*PacketConn](n, service, portKey{port, record.UDP}, (*Incoming).AcceptPacket)
	if err != nil {
		return nil, err
	}
	return &PacketListener{b}, nil
}

func listen[T net.Conn](n *Node, service identity.ServiceID, key portKey, accept func(*Incoming) (T, error)) (*backlog[T], error) {
	addr := Addr{Node: n.id, Service: service, Port: key.port}
	b := &backlog[T]{
		node: n, addr: addr, key: key, queue: make(chan T, listenBacklog), done: make(chan struct{}),
	}
	handler := func(_ context.Context, in *Incoming) { b.take(in, accept) }
	err := n.whileOpen(func() error { return n.services.listen(service, key, handler) })
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "scn", Source: addr, Err: err}
	}
	return b, nil
}

// take accepts one session into the queue.
func (b *backlog[T]) take(in *Incoming, accept func(*Incoming) (T, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		in.Reject(nil)
		return
	case len(b.queue) == cap(b.queue): // only take puts in, under mu
		in.Reject(ErrOverCapacity)
		return
	}
	c, err := accept(in)
	if err != nil {
		return
	}
	b.queue <- c
}

// AcceptSession waits for the next session.
func (b *backlog[T]) AcceptSession() (T, error) {
	select {
	case c := <-b.queue:
		return c, nil
	case <-b.done:
	case <-b.node.ctx.Done():
	}
	var none T
	return none, &net.OpError{Op: "accept", Net: "scn", Source: b.addr, Err: ErrClosed}
}

// Accept implements net.Listener.
func (b *backlog[T]) Accept() (net.Conn, error) {
	c, err := b.AcceptSession()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Close stops listening and closes the sessions nobody has accepted. Sessions
// accepted before go on.
func (b *backlog[T]) Close() error {
	b.once.Do(func() {
		b.node.services.unlisten(b.addr.Service, b.key)
		close(b.done)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = true
		for len(b.queue) > 0 {
			_ = (<-b.queue).Close()
		}
	})
	return nil
}

// Addr returns the service and port, an Addr.
func (b *backlog[T]) Addr() net.Addr { return b.addr }
