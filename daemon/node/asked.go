package node

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/sal"
	"scn.alt/scn/tun/target"
)

// wakePause is how long after a refusal a target that is being woken is tried again.
const wakePause = 250 * time.Millisecond

// handleAsked holds a session until somebody has decided about it.
func (n *Node) handleAsked(ctx context.Context, book *access.Book, s *served, in *sal.Incoming, caller access.Caller) error {
	if s.draining.Load() {
		in.Reject(sal.ErrDraining)
		return sal.ErrDraining
	}
	answer, release, err := n.gate.Hold(ctx, verdict.Key{
		Service: string(s.Name), Node: in.Peer, Account: caller.Account, Port: in.Port, Protocol: in.Protocol,
	}, s.ID)
	defer release()
	if err != nil {
		in.Reject(err)
		return err
	}
	switch answer.Kind {
	case verdict.Allow:
		release()
		return s.provider.Handle(ctx, n.incoming(book, in, in.Reject, func() {}))
	case verdict.Wake:
		return n.handleWaking(ctx, book, s, in, answer.Wake, release)
	case verdict.Pay:
		in.Reject(sal.ErrPayment)
		return sal.ErrPayment
	case verdict.Deny, verdict.AskUser:
	}
	in.Reject(fs.ErrPermission)
	return fs.ErrPermission
}

// handleWaking serves a session whose target may have to be woken first: as long as
// it refuses, the command is run and the session held, until WakeTimeout.
func (n *Node) handleWaking(ctx context.Context, book *access.Book, s *served, in *sal.Incoming, command []string, release func()) error {
	deadline := time.Now().Add(n.cfg.WakeTimeout)
	for woken := false; ; woken = true {
		var refused error
		err := s.provider.Handle(ctx, n.incoming(book, in, func(err error) { refused = err }, release))
		switch {
		case refused == nil:
			return err
		case errors.Is(refused, target.ErrNoTarget):
			in.Reject(refused)
			return refused
		}
		if !woken {
			waking, cancel := context.WithDeadline(ctx, deadline)
			err = n.gate.Wake(waking, command)
			cancel()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			in.Reject(refused)
			return errors.Join(refused, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wakePause):
		}
	}
}
