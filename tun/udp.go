package tun

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/packet"
)

// Bounds of what waits to be sent: per flow in datagrams, over all flows in bytes.
const (
	packetQueue    = 256
	maxQueuedBytes = 32 << 20
)

// refusedFor is how long a refused flow answers further datagrams without a dial.
const refusedFor = time.Second

// maxDatagram is the largest payload of a datagram in the overlay.
const maxDatagram = 65507

// datagramReader is a packet flow that hands each datagram out without a buffer of the
// reader's; the slice is the reader's until its next call.
type datagramReader interface{ ReadDatagram() ([]byte, error) }

// datagramTrier is a packet flow that sends a datagram or drops it, and never waits. The
// loops write to it themselves. It must not keep the slice.
type datagramTrier interface{ TryWrite([]byte) error }

// packetFlow is one UDP 5-tuple of an application.
type packetFlow struct {
	// Constant after the table made it.
	key     tuple
	service identity.ServiceID
	port    uint16
	family  *family
	app     netip.AddrPort
	device  netip.Addr // the application's host, if not this one
	virtual netip.AddrPort
	first   []byte // head of the first packet, quoted in ICMP errors
	header  packet.Header
	ctx     context.Context
	cancel  context.CancelFunc
	queue   chan []byte

	last    atomic.Int64 // when it last carried something, Unix nanoseconds
	refused atomic.Int32 // verdict plus one, once refused
	// direct is what the loops write to instead of the queue, once that is empty.
	direct atomic.Pointer[datagramTrier]
	failed chan error // why direct takes no more; cap 1
}

func (f *packetFlow) touch(now time.Time) { f.last.Store(now.UnixNano()) }

// packetTable knows every UDP flow.
type packetTable struct {
	limit int // constant

	queued atomic.Int64 // bytes in all queues

	mu    sync.Mutex // guards below
	flows map[tuple]*packetFlow
}

func newPacketTable(limit int) *packetTable {
	return &packetTable{limit: limit, flows: make(map[tuple]*packetFlow)}
}

func (t *packetTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows)
}

func (t *packetTable) find(key tuple) *packetFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[key]
}

// add makes a flow, nil when there are too many.
func (t *packetTable) add(ctx context.Context, now time.Time, fam *family, b []byte, h *packet.Header, service identity.ServiceID, device netip.Addr) *packetFlow {
	f := &packetFlow{
		key: tupleOf(h.Source(), h.Destination()), service: service, port: h.DstPort, family: fam, device: device,
		app: h.Source(), virtual: h.Destination(), first: slices.Clone(b[:min(len(b), 576)]), header: *h,
		queue: make(chan []byte, packetQueue), failed: make(chan error, 1),
	}
	f.header.Length = len(f.first)
	f.touch(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.flows) >= t.limit {
		return nil
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	t.flows[f.key] = f
	return f
}

func (t *packetTable) remove(f *packetFlow) {
	f.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.key] == f {
		delete(t.flows, f.key)
	}
}

// sweep ends flows that were idle, and appends the services of all others to live.
func (t *packetTable) sweep(now time.Time, idle time.Duration, live map[identity.ServiceID]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flows {
		if now.UnixNano()-f.last.Load() > int64(idle) {
			f.cancel()
		} else if live != nil {
			live[f.service] = struct{}{}
		}
	}
}

// connect makes the loops write to w, if nothing is queued any more.
func (t *packetTable) connect(f *packetFlow, w datagramTrier) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(f.queue) > 0 {
		return false
	}
	f.direct.Store(&w)
	return true
}

// enqueue copies a datagram to the flow's queue. It is false when there is no room, or
// the flow has just been connected.
func (t *packetTable) enqueue(f *packetFlow, payload []byte) bool {
	if t.queued.Load()+int64(len(payload)) > maxQueuedBytes {
		return false
	}
	b := slices.Clone(payload)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.key] != f || f.direct.Load() != nil {
		return false // it has just ended or been connected: nobody empties its queue
	}
	select {
	case f.queue <- b:
		t.queued.Add(int64(len(b)))
		return true
	default:
		return false
	}
}

// udp handles a datagram from an application.
func (l *loop) udp(fam *family, b []byte, h *packet.Header) {
	e := l.edge
	now := time.Now()
	f := e.udp.find(tupleOf(h.Source(), h.Destination()))
	if f == nil {
		service, ok := e.pool.Service(h.Dst)
		if !ok {
			l.unknown(fam, b, h)
			return
		}
		if !e.guests.take(l.device, guestPacketFlow) {
			e.count.guestsLimited.Add(1)
			return
		}
		if f = e.udp.add(e.ctx, now, fam, b, h, service, l.device); f == nil {
			e.guests.release(l.device, guestPacketFlow)
			e.count.datagramsDropped.Add(1)
			return
		}
		if !e.start(func() { e.servePackets(f) }) {
			e.guests.release(l.device, guestPacketFlow)
			e.udp.remove(f)
			return
		}
	}
	if v := f.refused.Load(); v != 0 {
		if l.errors.take(now) {
			e.unreachable(f.virtual.Addr(), b, h, verdict(v-1).reason())
		}
		return
	}
	f.touch(now)
	payload := h.UDPPayload(b)
	if f.direct.Load() == nil && e.udp.enqueue(f, payload) {
		return
	}
	if w := f.direct.Load(); w != nil {
		e.sendDirect(f, *w, payload)
		return
	}
	e.count.datagramsDropped.Add(1)
}

// sendDirect sends one datagram without waiting.
func (e *Edge) sendDirect(f *packetFlow, w datagramTrier, payload []byte) {
	err := w.TryWrite(payload)
	if err == nil {
		e.count.datagramsUp.Add(1)
		return
	}
	e.count.datagramsDropped.Add(1)
	if !isLoss(err) {
		select {
		case f.failed <- err:
		default:
		}
	}
}

// servePackets carries one UDP flow.
func (e *Edge) servePackets(f *packetFlow) {
	defer e.drop(f)
	ctx, cancel := context.WithTimeout(f.ctx, e.cfg.DialTimeout)
	err := e.admit(ctx, f.device, f.service, f.port, record.UDP)
	var remote net.Conn
	if err == nil {
		remote, err = e.cfg.Overlay.DialPacket(ctx, f.service, f.port)
	}
	cancel()
	if err != nil {
		e.refusePackets(f, err)
		return
	}
	e.count.packetOpened.Add(1)
	f.touch(time.Now())
	stop := context.AfterFunc(f.ctx, func() { remote.Close() })
	defer stop()
	var down sync.WaitGroup
	var downErr error
	down.Go(func() { // ended by the Close of remote
		downErr = e.packetsDown(f, remote)
		f.cancel()
	})
	err = e.packetsUp(f, remote)
	f.cancel()
	remote.Close()
	down.Wait()
	for _, err := range []error{err, downErr} {
		if err != nil && e.ctx.Err() == nil && judge(err) != verdictUnreachable {
			e.refusePackets(f, err)
			return
		}
	}
}

// packetsUp sends what the application sent, until the flow ends or the overlay fails.
func (e *Edge) packetsUp(f *packetFlow, remote net.Conn) error {
	direct, _ := remote.(datagramTrier)
	for {
		if direct != nil && e.udp.connect(f, direct) {
			select {
			case <-f.ctx.Done():
				return nil
			case err := <-f.failed:
				return err
			}
		}
		select {
		case <-f.ctx.Done():
			return nil
		case b := <-f.queue:
			e.udp.queued.Add(-int64(len(b)))
			if _, err := remote.Write(b); err != nil {
				if isLoss(err) && f.ctx.Err() == nil {
					e.count.datagramsDropped.Add(1)
					continue
				}
				return err
			}
			e.count.datagramsUp.Add(1)
		}
	}
}

// packetsDown gives the application what the overlay brings.
func (e *Edge) packetsDown(f *packetFlow, remote net.Conn) error {
	direct, _ := remote.(datagramReader)
	size := packet.UDPHeadroom + 2048
	if direct == nil {
		size = packet.UDPHeadroom + maxDatagram + 1
	}
	buf := make([]byte, size)
	for {
		var n int
		var err error
		if direct != nil {
			var b []byte
			if b, err = direct.ReadDatagram(); err == nil {
				n = len(b)
				buf = slices.Grow(buf[:0], packet.UDPHeadroom+n)[:packet.UDPHeadroom+n]
				copy(buf[packet.UDPHeadroom:], b)
			}
		} else {
			n, err = remote.Read(buf[packet.UDPHeadroom:])
		}
		if err != nil {
			return err
		}
		if n > maxDatagram {
			e.count.datagramsDropped.Add(1)
			continue
		}
		f.touch(time.Now())
		e.writeTo(f.device, packet.PutUDP(buf[:packet.UDPHeadroom+n], f.virtual, f.app))
		e.count.datagramsDown.Add(1)
	}
}

// refusePackets tells the application why its datagrams go nowhere, now and for what it
// sends within the next second.
func (e *Edge) refusePackets(f *packetFlow, err error) {
	v := judge(err)
	if e.ctx.Err() != nil {
		return
	}
	e.count.packetRefused.Add(1)
	e.log.Debug("packet flow refused", "service", f.service.Short(), "port", f.port, "err", err)
	f.refused.Store(int32(v) + 1)
	e.unreachable(f.virtual.Addr(), f.first, &f.header, v.reason())
	select {
	case <-time.After(refusedFor):
	case <-e.ctx.Done():
	}
}

// drop forgets a flow and what waits in its queue.
func (e *Edge) drop(f *packetFlow) {
	e.udp.remove(f)
	e.guests.release(f.device, guestPacketFlow)
	for {
		select {
		case b := <-f.queue:
			e.udp.queued.Add(-int64(len(b)))
			e.count.datagramsDropped.Add(1)
		default:
			return
		}
	}
}

// isLoss reports whether a datagram was merely lost: too long for the way, or no room in
// a queue.
func isLoss(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}
