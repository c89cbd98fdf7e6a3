package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/packet"
	"scn.alt/scn/tun/splice"
)

// farewell is how long Run keeps turning packets after the last flow was reset, so that
// the resets reach the applications.
const farewell = 50 * time.Millisecond

// Run carries the flows until ctx is done, Close is called, or the device fails. It
// resets what is open then and leaves no goroutine behind. It is called once.
func (e *Edge) Run(ctx context.Context) error {
	if e.running.Swap(true) {
		return fmt.Errorf("%w, or Run was called before", ErrClosed)
	}
	defer close(e.ended)
	defer e.cancel()
	failed := make(chan error, len(e.dev.queues))
	stop := make(chan struct{}) // ends the loops that have no file to be woken by
	for _, q := range e.dev.queues {
		e.loops.Go(func() { failed <- e.readLoop(q) }) // ended by its deadline, below
	}
	for _, f := range []*family{e.family4, e.family6} {
		if f != nil {
			e.loops.Go(func() { e.acceptLoop(f) }) // ended by its deadline, below
		}
	}
	e.loops.Go(func() { e.sweepLoop(stop) })
	if !e.cfg.noSelfTest {
		e.start(func() { // ended by its own patience, or by e.ctx
			if err := e.SelfTest(e.ctx); err != nil && e.ctx.Err() == nil {
				e.log.Warn("applications will not reach services", "err", err)
			}
		})
	}

	var err error
	select {
	case <-ctx.Done():
	case <-e.ctx.Done():
	case err = <-failed:
		e.log.Error("device failed", "err", err)
	}
	e.stopFlows()
	if err == nil {
		time.Sleep(farewell)
	}
	close(stop)
	for _, q := range e.dev.queues {
		_ = q.SetReadDeadline(time.Unix(1, 0)) // fails on a dead device, whose loop has ended
	}
	for _, f := range []*family{e.family4, e.family6} {
		if f != nil {
			_ = f.listener.SetDeadline(time.Unix(1, 0))
		}
	}
	e.loops.Wait()
	return err
}

// start runs one goroutine of a flow; stopFlows waits for it. It is false once the edge
// is stopping.
func (e *Edge) start(run func()) bool {
	e.flowsMu.Lock()
	defer e.flowsMu.Unlock()
	if e.stopping {
		return false
	}
	e.flows.Go(run)
	return true
}

func (e *Edge) stopFlows() {
	e.flowsMu.Lock()
	e.stopping = true
	e.flowsMu.Unlock()
	e.cancel()
	e.flows.Wait()
}

// readLoop is one queue's packet loop. It returns nil when its deadline ends it.
func (e *Edge) readLoop(q *os.File) error {
	l := &loop{edge: e, queue: q}
	buf := make([]byte, packet.Largest)
	for {
		n, err := q.Read(buf)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		default:
			// EBADFD and EIO: somebody took the device away or set it down.
			return fmt.Errorf("tun: read from %s: %w", e.dev.name, err)
		}
		e.count.read.Add(1)
		e.count.bytesRead.Add(uint64(n))
		l.handle(buf[:n])
	}
}

// acceptLoop hands what the listener accepts to the flows, and resets what belongs to
// none.
func (e *Edge) acceptLoop(f *family) {
	for {
		c, err := f.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				return
			}
			e.log.Warn("accept of a turned flow", "err", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		from, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok || !e.tcp.accept(f, unmapped(from), c) {
			splice.Reset(c)
		}
	}
}

func unmapped(a *net.TCPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// sweepLoop ends what has been idle, and writes down which services are in use.
func (e *Edge) sweepLoop(stop <-chan struct{}) {
	const touchEvery = 10 * time.Minute
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	touched := time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			var live map[identity.ServiceID]struct{}
			if now.Sub(touched) >= touchEvery {
				touched = now
				live = make(map[identity.ServiceID]struct{})
			}
			e.tcp.sweep(now, live)
			e.udp.sweep(now, e.cfg.PacketIdle, live)
			if live == nil {
				continue
			}
			services := make([]identity.ServiceID, 0, len(live))
			for s := range live {
				services = append(services, s)
			}
			if err := e.pool.Touch(services...); err != nil {
				e.log.Warn("virtual addresses not written down", "err", err)
			}
		}
	}
}

// write puts a packet into the device.
func (e *Edge) write(b []byte) {
	n, err := e.dev.queues[0].Write(b)
	if err != nil {
		e.count.writeErrors.Add(1)
		return
	}
	e.count.written.Add(1)
	e.count.bytesWritten.Add(uint64(n))
}
