package sal

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// defaultRetryAfter is how many handshakes may be in progress before clients have
// to prove their address first, by QUIC's Retry (RFC 9000 §8.1.2), which costs
// them a round trip. A node rarely sees ten at a time; a flood of spoofed
// addresses is thousands.
const defaultRetryAfter = 128

// handshakeGuard decides when to demand Retry, and when to refuse outright.
type handshakeGuard struct {
	retryAfter int64 // constant
	pending    atomic.Int64
	retries    atomic.Uint64
	refused    atomic.Uint64

	mu     sync.Mutex // guards below
	second int64
	count  int64 // initial packets of unproved addresses in this second
}

type handshakeKey struct{}

var errTooManyHandshakes = errors.New("sal: too many handshakes")

// verify implements quic.Transport.VerifySourceAddress.
func (g *handshakeGuard) verify(net.Addr) bool {
	second := time.Now().Unix()
	g.mu.Lock()
	if g.second != second {
		g.second, g.count = second, 0
	}
	g.count++
	busy := g.count > 4*g.retryAfter
	g.mu.Unlock()
	if busy || g.pending.Load() >= g.retryAfter {
		g.retries.Add(1)
		return true
	}
	return false
}

// connContext implements quic.Transport.ConnContext: it counts the handshake
// until it is done or has failed.
func (g *handshakeGuard) connContext(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if g.pending.Load() >= 32*g.retryAfter {
		g.refused.Add(1)
		return nil, errTooManyHandshakes
	}
	g.pending.Add(1)
	done := sync.OnceFunc(func() { g.pending.Add(-1) })
	context.AfterFunc(ctx, done)
	return context.WithValue(ctx, handshakeKey{}, done), nil
}

// done notes that the handshake of an accepted connection is over.
func (g *handshakeGuard) done(conn *quic.Conn) {
	if f, ok := conn.Context().Value(handshakeKey{}).(func()); ok {
		f()
	}
}
