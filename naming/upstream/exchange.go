package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scn.alt/scn/naming/message"
)

// minLetters is how many letters a name needs for its case to identify a query.
const minLetters = 8

// errCaseLost says that a server changed the case of the name.
var errCaseLost = errors.New("upstream: case not kept")

// server is one upstream server and how it behaved. The Forwarder's mu guards it.
type server struct {
	addr   netip.AddrPort
	silent int       // questions in a row it did not answer
	until  time.Time // it is asked after the others until then
}

// question is what a flight asks.
type question struct {
	name       []byte // wire form
	typ, class uint16
	flags      uint16
	do         bool
}

type result struct {
	server   *server
	response message.Forwarded
	err      error
}

// orderLocked returns the servers in the order to ask them.
func (f *Forwarder) orderLocked(now time.Time) []*server {
	servers := slices.Clone(f.servers)
	slices.SortStableFunc(servers, func(a, b *server) int {
		x, y := now.Before(a.until), now.Before(b.until)
		switch {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	return servers
}

// fly asks the servers one after the other, each again while none has answered,
// until one gives a good answer, all have given a bad one, or time is up.
func (f *Forwarder) fly(q question, servers []*server) (message.Forwarded, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Timeout)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	const maxAttempts = 8
	results := make(chan result, maxAttempts) // never blocks a sender
	answered := make(map[*server]bool)
	asked := make(map[*server]bool)
	attempts := 0
	// ask starts the next attempt, if there is one left.
	ask := func() {
		for range servers {
			s := servers[attempts%len(servers)]
			if attempts >= maxAttempts || attempts >= 3*len(servers) {
				return
			}
			attempts++
			if answered[s] {
				continue
			}
			asked[s] = true
			wg.Go(func() { // ends with ctx
				response, err := f.attempt(ctx, s.addr, q)
				results <- result{s, response, err}
			})
			return
		}
	}
	ask()
	timer := time.NewTimer(f.cfg.Stagger)
	defer timer.Stop()
	var last *message.Forwarded
	for {
		select {
		case r := <-results:
			if ctx.Err() != nil {
				continue // the next turn ends
			}
			if r.err == nil && good(r.response.Rcode) {
				f.settle(r.server, asked, answered, func(m *Metrics) { m.Answered++ })
				return r.response, nil
			}
			answered[r.server] = true
			if r.err == nil {
				last = &r.response
			} else {
				f.penalise(r.server)
			}
			if len(answered) == len(servers) {
				f.settle(nil, asked, answered, func(m *Metrics) { m.Failed++ })
				if last != nil {
					return *last, nil
				}
				return message.Forwarded{}, fmt.Errorf("%w: %w", ErrTimeout, r.err)
			}
			ask()
			timer.Reset(f.cfg.Stagger)
		case <-timer.C:
			ask()
			timer.Reset(f.cfg.Stagger)
		case <-ctx.Done():
			if f.ctx.Err() != nil {
				return message.Forwarded{}, ErrClosed
			}
			f.settle(nil, asked, answered, func(m *Metrics) { m.TimedOut++ })
			if last != nil {
				return *last, nil
			}
			return message.Forwarded{}, ErrTimeout
		}
	}
}

// good reports whether an answer ends the search: another server would say the same.
func good(rcode int) bool {
	switch rcode {
	case message.ServerFailure, message.Refused, message.NotImplemented, message.FormatError:
		return false
	}
	return true
}

// settle notes how the servers behaved when a flight ends: winner answered, the
// others asked for longer than the stagger stayed silent.
func (f *Forwarder) settle(winner *server, asked, answered map[*server]bool, count func(*Metrics)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count(&f.metrics)
	for s := range asked {
		switch {
		case s == winner:
			s.silent, s.until = 0, time.Time{}
		case !answered[s] && (winner == nil || len(asked) > 1):
			f.penaliseLocked(s)
		}
	}
}

func (f *Forwarder) penalise(s *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.penaliseLocked(s)
}

func (f *Forwarder) penaliseLocked(s *server) {
	s.silent = min(s.silent+1, 6)
	s.until = time.Now().Add(time.Second << (s.silent - 1)) // 1s to 32s
}

// attempt asks one server over UDP, and over TCP where UDP does not do.
func (f *Forwarder) attempt(ctx context.Context, addr netip.AddrPort, q question) (message.Forwarded, error) {
	name := shuffleCase(q.name)
	key := askedKey(name, q.typ)
	f.mu.Lock()
	f.asked[string(key)]++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.asked[string(key)]--; f.asked[string(key)] == 0 {
			delete(f.asked, string(key))
		}
	}()
	id := uint16(rand.Uint32()) // ChaCha8, seeded by the system
	query := message.AppendQuery(nil, id, q.flags, name, q.typ, q.class, q.do)
	r, err := f.overUDP(ctx, addr, query, id, name, q)
	if err == nil && (r.Rcode == message.FormatError || r.Rcode == message.NotImplemented) {
		// A server that knows no EDNS (RFC 6891 §6.2.2).
		plain := slices.Clone(query[:message.HeaderSize+len(name)+4])
		plain[11] = 0
		r, err = f.overUDP(ctx, addr, plain, id, name, q)
		query = plain
	}
	switch {
	case errors.Is(err, errCaseLost):
		f.count(func(m *Metrics) { m.CaseLost++ })
	case err != nil || !r.Truncated:
		return r, err
	}
	return f.overTCP(ctx, addr, query, id, name, q)
}

func (f *Forwarder) overUDP(ctx context.Context, addr netip.AddrPort, query []byte, id uint16, name []byte, q question) (message.Forwarded, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", addr.String())
	if err != nil {
		return message.Forwarded{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	f.count(func(m *Metrics) { m.Sent++ })
	if _, err := conn.Write(query); err != nil {
		return message.Forwarded{}, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return message.Forwarded{}, err
		}
		r, caseDiffers, err := message.ParseResponse(buf[:n], id, name, q.typ, q.class)
		switch {
		case err != nil:
			f.count(func(m *Metrics) { m.Dropped++ })
			continue // somebody else's; ours may still come
		case caseDiffers:
			return message.Forwarded{}, errCaseLost
		}
		return r, nil
	}
}

func (f *Forwarder) overTCP(ctx context.Context, addr netip.AddrPort, query []byte, id uint16, name []byte, q question) (message.Forwarded, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return message.Forwarded{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	f.count(func(m *Metrics) { m.Sent++; m.TCP++ })
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return message.Forwarded{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return message.Forwarded{}, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		return message.Forwarded{}, err
	}
	// Over TCP a forger would have to guess sequence numbers, so the case may differ.
	r, _, err := message.ParseResponse(b, id, name, q.typ, q.class)
	return r, err
}

func (f *Forwarder) count(add func(*Metrics)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add(&f.metrics)
}

func askedKey(name []byte, typ uint16) []byte {
	return append(slices.Clip(name), byte(typ>>8), byte(typ))
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func letters(name []byte) int {
	n := 0
	for _, c := range name {
		if letter(c) {
			n++
		}
	}
	return n
}

// shuffleCase returns the name with random case, another one than it has if it
// has any letter, so that a loop is told from the client's own query.
func shuffleCase(name []byte) []byte {
	out := slices.Clone(name)
	last := -1
	var bits uint64
	for i, c := range out {
		if !letter(c) {
			continue
		}
		if last = i; bits <= 1 {
			bits = rand.Uint64() | 1<<63
		}
		if bits&1 != 0 {
			out[i] ^= 0x20
		}
		bits >>= 1
	}
	if last >= 0 && slices.Equal(out, name) {
		out[last] ^= 0x20
	}
	return out
}
