package tun

import (
	"context"
	"net"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/packet"
	"scn.alt/scn/tun/splice"
)

// acceptPatience bounds how long the kernel's handshake may take after a SYN was passed
// to our listener: longer than the kernel sends its SYN-ACK again (63 s), since the
// application may count itself connected already.
const acceptPatience = 75 * time.Second

// tcp handles a TCP packet to one of our ranges: from an application to a virtual
// address, or from our listener to a made-up peer.
func (l *loop) tcp(fam *family, b []byte, h *packet.Header) {
	e := l.edge
	seg := h.Segment(b)
	if h.Src == fam.own && h.SrcPort == fam.port {
		f := e.tcp.fromListener(fam, h.Destination(), seg, time.Now())
		if f == nil {
			e.count.unsolicited.Add(1)
			return
		}
		f.back.Apply(b, h)
		l.write(b)
		return
	}
	key := tupleOf(h.Source(), h.Destination())
	if seg.Flags&(packet.SYN|packet.ACK|packet.RST|packet.FIN) == packet.SYN {
		l.syn(fam, key, b, h, seg.Seq)
		return
	}
	f, pass, suspect := e.tcp.fromApp(key, seg, time.Now())
	switch {
	case f == nil:
		e.count.unsolicited.Add(1)
		if seg.Flags&packet.RST == 0 {
			// A connection from before a restart: the application learns now.
			e.write(packet.AppendReset(make([]byte, 0, 64), b, h))
		}
	case pass:
		f.forward.Apply(b, h)
		l.write(b)
		if suspect != nil {
			e.checkReset(f, suspect)
		}
	}
}

// syn handles a first SYN, or one sent again.
func (l *loop) syn(fam *family, key tuple, b []byte, h *packet.Header, isn uint32) {
	e := l.edge
	f, same := e.tcp.again(key, b, isn)
	if f != nil {
		f.forward.Apply(b, h)
		l.write(b)
	}
	if same {
		return
	}
	if h.Dst == fam.probe && h.DstPort == probePort && !l.device.IsValid() {
		l.probe(fam, b, h)
		return
	}
	service, ok := e.pool.Service(h.Dst)
	if !ok {
		l.unknown(fam, b, h)
		return
	}
	if !e.guests.take(l.device, guestFlow) {
		e.count.guestsLimited.Add(1)
		return
	}
	early := e.warm.is(l.device, service, h.DstPort, time.Now())
	if f = e.tcp.add(e.ctx, fam, h, b, service, l.device, !early); f == nil {
		e.guests.release(l.device, guestFlow)
		e.count.dropped.Add(1) // the application's kernel sends it again in a second
		return
	}
	serve := func() { e.serveHeld(f) }
	if early {
		e.count.early.Add(1)
		serve = func() { e.serveEarly(f) }
	}
	if !e.start(serve) {
		e.finish(f)
		return
	}
	if early {
		f.forward.Apply(b, h)
		l.write(b)
	}
}

// serveHeld dials, and answers the application by what comes of it.
func (e *Edge) serveHeld(f *tcpFlow) {
	defer e.finish(f)
	ctx, cancel := context.WithTimeout(f.ctx, e.cfg.DialTimeout)
	remote, err := e.dialFor(ctx, f, e.cfg.Overlay.Dial)
	cancel()
	if err != nil {
		e.refuse(f, err)
		return
	}
	e.warm.accepted(f.device, f.service, f.port, time.Now())
	syn := e.tcp.release(f)
	if syn == nil {
		splice.Reset(remote)
		return
	}
	if h, err := packet.Parse(syn); err == nil {
		f.forward.Apply(syn, &h)
		e.write(syn)
	}
	e.join(f, remote)
}

// dialFor dials for a flow, if it may be.
func (e *Edge) dialFor(ctx context.Context, f *tcpFlow, dial dialFunc) (net.Conn, error) {
	if err := e.admit(ctx, f.device, f.service, f.port, record.TCP); err != nil {
		return nil, err
	}
	return dial(ctx, f.service, f.port)
}

type dialFunc = func(ctx context.Context, service identity.ServiceID, port uint16) (net.Conn, error)

// serveEarly dials behind an application that has its answer already.
func (e *Edge) serveEarly(f *tcpFlow) {
	defer e.finish(f)
	dial := e.cfg.Overlay.Dial
	early, ok := e.cfg.Overlay.(EarlyDialer)
	if ok {
		dial = early.DialEarly
	}
	ctx, cancel := context.WithTimeout(f.ctx, e.cfg.DialTimeout)
	remote, err := e.dialFor(ctx, f, dial)
	cancel()
	if err != nil {
		if f.ctx.Err() == nil || e.ctx.Err() != nil {
			e.warm.failed(f.device, f.service, f.port)
			e.count.refused.Add(1)
		}
		if app := e.await(f); app != nil {
			splice.Reset(app)
		}
		return
	}
	if !ok {
		e.warm.accepted(f.device, f.service, f.port, time.Now())
	}
	e.join(f, remote)
}

// join waits for the kernel's handshake and carries the bytes.
func (e *Edge) join(f *tcpFlow, remote net.Conn) {
	app := e.await(f)
	if app == nil {
		splice.Reset(remote)
		return
	}
	e.count.opened.Add(1)
	res, err := splice.Both(f.ctx, app, remote, e.buffers)
	e.count.up.Add(uint64(res.AToB))
	e.count.down.Add(uint64(res.BToA))
	switch {
	case err != nil:
		e.count.reset.Add(1)
		if res.BToA == 0 && f.ctx.Err() == nil {
			// A provider that answered nothing may have refused a stream opened early.
			e.warm.failed(f.device, f.service, f.port)
		}
	case res.BToA > 0:
		e.warm.accepted(f.device, f.service, f.port, time.Now())
	}
}

// await returns the connection our listener accepted, nil when none comes.
func (e *Edge) await(f *tcpFlow) *net.TCPConn {
	timer := time.NewTimer(acceptPatience)
	defer timer.Stop()
	select {
	case c := <-f.accepted:
		return c
	case <-timer.C:
	case <-f.ctx.Done():
	}
	select {
	case c := <-f.accepted: // both at once
		splice.Reset(c)
	default:
	}
	return nil
}

// refuse tells the application of a held SYN why it gets no connection.
func (e *Edge) refuse(f *tcpFlow, err error) {
	e.warm.failed(f.device, f.service, f.port)
	syn := e.tcp.refuse(f)
	if syn == nil {
		return // replaced, or given up by the application
	}
	h, perr := packet.Parse(syn)
	if perr != nil {
		return
	}
	e.count.refused.Add(1)
	v := judge(err)
	if e.ctx.Err() != nil {
		v = verdictReset // we are going away
	}
	e.log.Debug("flow refused", "service", f.service.Short(), "port", f.port, "err", err)
	if v == verdictReset {
		e.write(packet.AppendReset(make([]byte, 0, 64), syn, &h))
		return
	}
	e.unreachable(f.family.gateway, syn, &h, v.reason())
}

// checkReset ends a flow whose application reset it, once the kernel agrees that the
// reset was valid. Without it a flow whose both directions wait for the overlay would
// not notice.
func (e *Edge) checkReset(f *tcpFlow, c *net.TCPConn) {
	if isReset(c) {
		f.cancel()
		return
	}
	e.start(func() { // ends after the last look
		for _, wait := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond} {
			select {
			case <-time.After(wait):
			case <-f.ctx.Done():
				return
			}
			if isReset(c) {
				f.cancel()
				return
			}
		}
	})
}

// finish begins a flow's closing.
func (e *Edge) finish(f *tcpFlow) {
	e.guests.release(f.device, guestFlow)
	if c := e.tcp.finish(f, time.Now()); c != nil {
		splice.Reset(c)
	}
}

// write puts a packet back into the loop's own queue.
func (l *loop) write(b []byte) {
	n, err := l.queue.Write(b)
	if err != nil {
		l.edge.count.writeErrors.Add(1)
		return
	}
	l.edge.count.written.Add(1)
	l.edge.count.bytesWritten.Add(uint64(n))
}
