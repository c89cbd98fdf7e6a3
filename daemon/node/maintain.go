package node

import (
	"context"
	"errors"
	"time"

	"scn.alt/scn/naming/name"
)

// How often things that change by themselves are looked at.
const (
	maintainSoon  = 5 * time.Second
	maintainLate  = 5 * time.Minute
	namesInterval = 12 * time.Hour // far below a name record's seven days
	renewInterval = 24 * time.Hour // far below a service record's thirty days
)

// maintain brings services on line that are not yet, and renews what would expire,
// until ctx ends. What fails is tried again, less and less often.
func (n *Node) maintain(ctx context.Context) error {
	wait := maintainSoon
	var namesDone time.Time
	renewed := map[name.Name]time.Time{}
	warned := false
	for {
		warned = n.checkClock(warned)
		settled := n.maintainServices(ctx, renewed)
		if err := n.settleKeys(ctx); err != nil {
			settled = false
			n.log.Debug("rotation of the account's key not settled", "err", err)
		}
		if time.Since(namesDone) > namesInterval {
			if err := n.refreshNames(ctx); err != nil {
				settled = false
				n.log.Debug("names not refreshed", "err", err)
			} else {
				namesDone = time.Now()
			}
		}
		if settled {
			wait = maintainLate
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, maintainLate)
	}
}

// checkClock warns once when peers' time is believed over the host's.
func (n *Node) checkClock(warned bool) bool {
	offset, samples := n.sal.ClockOffset()
	off := samples > 0 && offset.Abs() > clockTrust
	if off && !warned {
		n.log.Warn("this host's clock is far off: the peers' time is used until it is set",
			"offset", offset.Round(time.Second).String(), "peers", samples)
	}
	return off
}

// maintainServices reports whether every service is on line.
func (n *Node) maintainServices(ctx context.Context, renewed map[name.Name]time.Time) bool {
	settled := true
	for _, s := range n.Services() {
		if ctx.Err() != nil {
			return true
		}
		if s.State == online && time.Since(renewed[s.Name]) < renewInterval {
			continue
		}
		if srv := n.findService(s.Name); srv != nil && n.bringOnline(ctx, srv) {
			renewed[s.Name] = time.Now()
			continue
		}
		settled = false
	}
	return settled
}

// bringOnline registers a service's name where that is still to be done, and
// publishes its record.
func (n *Node) bringOnline(ctx context.Context, srv *served) bool {
	n.servicesMu.Lock()
	defer n.servicesMu.Unlock()
	if n.findService(srv.Name) != srv {
		return true // replaced or stopped meanwhile
	}
	n.publishService(ctx, srv)
	if !srv.owned {
		return *srv.state.Load() == online
	}
	key, err := n.dir.ServiceKey(string(srv.Name))
	if err != nil {
		return false
	}
	answer, err := n.askRegistry(ctx, srv.Name)
	if err == nil && answer.Record.Service == key.Service() {
		return true
	}
	if err == nil {
		err = n.register(ctx, srv.Name, key, 0)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrPending):
		srv.set("waiting: " + err.Error())
	case errors.Is(err, ErrTaken):
		srv.set("reachable by ID only: " + err.Error())
	default:
		n.log.Debug("name not confirmed", "name", string(srv.Name), "err", err)
	}
	return false
}
