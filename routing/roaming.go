package routing

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// era is the time in which a node's addresses stay what they are. The zero value is
// the time before the first are known.
type era struct {
	mu  sync.Mutex // guards below
	ctx context.Context
	end context.CancelFunc
}

// now returns a context that ends with the era.
func (e *era) now() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		e.ctx, e.end = context.WithCancel(context.Background())
	}
	return e.ctx
}

// next begins another era.
func (e *era) next() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx != nil {
		e.end()
		e.ctx, e.end = nil, nil
	}
}

// nowhere is how long a dial that cannot leave this host waits before it is tried
// once more: between two addresses there is a moment without a route.
const nowhere = 250 * time.Millisecond

// roaming is libp2p's QUIC transport for a node that moves. A QUIC handshake is bound
// to the address it began from, and libp2p has everybody who wants a peer wait for
// the dial already under way: after a move all would wait for an answer to an address
// that is gone. Here a dial begins anew in that case, and what was connected meanwhile
// is closed, since the peer may still think it is with the old address.
type roaming struct {
	transport.Transport
	era     *era
	sources *sources
}

// Dial implements transport.Transport.
func (t *roaming) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	var failed context.Context // the era in which this host could not send
	for {
		now, source := t.era.now(), sourceTowards(to)
		conn, err := t.dial(ctx, now, to, p)
		switch {
		case err == nil && now.Err() == nil && sourceTowards(to) == source:
			t.sources.left(conn, source)
			return conn, nil
		case err == nil:
			_ = conn.Close()
		case now.Err() != nil:
		case failed == now || !unsendable(err):
			return nil, err
		default:
			failed = now
			wait(ctx, now, nowhere)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// dial dials once, at most until the era ends.
func (t *roaming) dial(ctx, now context.Context, to ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(now, cancel)()
	return t.Transport.Dial(ctx, to, p)
}

// wait returns after d, or earlier when the era or ctx ends.
func wait(ctx, now context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-now.Done():
	case <-ctx.Done():
	}
}

// unsendable reports whether a dial failed because this host could not send: to
// quic-go an error of the socket is an internal one.
func unsendable(err error) bool {
	var e *quic.TransportError
	return errors.As(err, &e) && !e.Remote && e.ErrorCode == quic.InternalError
}
