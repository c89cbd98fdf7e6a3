package tun

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"scn.alt/scn/routing/record"
	"scn.alt/scn/tun/packet"
)

// echo answers an echo request once the overlay's ping returns, so that the time ping
// shows is the way's. Beyond MaxPings held at once they are dropped, as a busy host does.
func (l *loop) echo(fam *family, b []byte, h *packet.Header) {
	e := l.edge
	service, ok := e.pool.Service(h.Dst)
	if !ok {
		l.unknown(fam, b, h)
		return
	}
	device := l.device
	if !e.guests.take(device, guestPing) {
		e.count.guestsLimited.Add(1)
		return
	}
	select {
	case e.pings <- struct{}{}:
	default:
		e.guests.release(device, guestPing)
		e.count.pingsFailed.Add(1)
		return
	}
	request, header := slices.Clone(b), *h
	if !e.start(func() {
		defer func() {
			<-e.pings
			e.guests.release(device, guestPing)
		}()
		ctx, cancel := context.WithTimeout(e.ctx, e.cfg.PingTimeout)
		defer cancel()
		err := e.admit(ctx, device, service, 0, record.UDP)
		if err == nil {
			_, err = e.cfg.Overlay.Ping(ctx, service)
		}
		if err != nil {
			e.count.pingsFailed.Add(1)
			if unreachableNow(err) {
				e.unreachable(fam.gateway, request, &header, judge(err).reason())
			}
			return
		}
		packet.EchoReply(request, &header)
		e.writeTo(device, request)
		e.count.pings.Add(1)
	}) {
		<-e.pings
		e.guests.release(device, guestPing)
	}
}

// unreachableNow reports whether the overlay answered no, as opposed to not answering.
func unreachableNow(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ECONNREFUSED)
}
