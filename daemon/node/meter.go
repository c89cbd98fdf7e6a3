package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

var (
	_ sal.Meter   = sessionMeter{}
	_ sal.Account = sessionAccount{}
)

// openMeter opens what counts every session, has it paid for where it has a price, and
// gives it a receipt.
func (n *Node) openMeter() (err error) {
	n.meter, err = meter.Open(meter.Config{
		Key: n.key, Network: n.Network().ID, Dir: filepath.Join(n.dir.StateDir(), "meter"), Send: n.sendFrame,
		Channels: n.pay.purse, Asks: n.pay.till, Usage: usageRecords{n.pay.usage}, Clock: n.Now, Logger: n.log.With("layer", "meter"),
	})
	return err
}

// sendFrame gives a frame to the meter of a connected node.
func (n *Node) sendFrame(peer identity.NodeID, frame []byte) bool {
	sessions := n.clock.Load()
	return sessions != nil && sessions.SendFrame(peer, frame)
}

// Meter returns what meters the sessions: it knows their receipts.
func (n *Node) Meter() *meter.Meter { return n.meter }

// sessionMeter shows the meter of the cashier to the sessions.
type sessionMeter struct{ meter *meter.Meter }

func meterSession(info sal.SessionInfo) meter.Session {
	return meter.Session{
		Local: info.Local, Peer: info.Peer, Initiator: info.Initiator, Service: info.Service, Port: info.Port,
		Protocol: uint8(info.Protocol), Nonce: info.Nonce, Exporter: info.Exporter, Opening: info.Opening,
		Accepting: info.Accepting, Start: info.Start, RoundTrip: info.RTT,
	}
}

// Opening implements sal.Meter.
func (m sessionMeter) Opening(info sal.SessionInfo) []byte {
	return m.meter.Opening(meterSession(info))
}

// Accepting implements sal.Meter.
func (m sessionMeter) Accepting(info sal.SessionInfo) ([]byte, error) {
	extension, err := m.meter.Accepting(meterSession(info))
	return extension, paymentError(err)
}

// Begin implements sal.Meter.
func (m sessionMeter) Begin(info sal.SessionInfo, send func(frame []byte)) (sal.Account, error) {
	s := meterSession(info)
	s.End = func(err error) { info.End(paymentError(err)) }
	a, err := m.meter.Begin(s, send)
	if err != nil {
		return nil, paymentError(err)
	}
	return sessionAccount{a}, nil
}

// Frame implements sal.Meter.
func (m sessionMeter) Frame(peer identity.NodeID, frame []byte) { m.meter.Frame(peer, frame) }

// sessionAccount is a metered session; Drop, Frame and Close are the meter's.
type sessionAccount struct{ *meter.Account }

// Take implements sal.Account.
func (a sessionAccount) Take(d sal.Direction, n int) bool {
	return a.Account.Take(d == sal.Received, n)
}

// Return implements sal.Account.
func (a sessionAccount) Return(_ sal.Direction, n int) { a.Account.Return(n) }

// Wait implements sal.Account.
func (a sessionAccount) Wait(ctx context.Context, n int) error {
	return paymentError(a.Account.Wait(ctx, n))
}

// paymentError makes an error of the meter's one of the sessions' as well, which the
// other end can be told.
func paymentError(err error) error {
	for _, e := range [...]error{meter.ErrUnpaid, meter.ErrChannel, meter.ErrPrice, meter.ErrBudget} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", sal.ErrPayment, err)
		}
	}
	return err
}
