package node

import (
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/daemon/health"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/sal"
)

// setCheck reads what the service says about its check.
func (s *served) setCheck() error {
	s.checks = health.Config{Rise: s.CheckRise, Fall: s.CheckFall}
	var errs []error
	if s.CheckInterval != "" {
		d, err := time.ParseDuration(s.CheckInterval)
		if err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf("check interval: %q is no time such as 5s", s.CheckInterval))
		}
		s.checks.Interval = d
	}
	errs = append(errs, s.checks.Validate())
	if s.Check != "" {
		check, err := health.ParseCheck(s.Check)
		if err == nil {
			s.try, err = check.Of(string(s.Name), s.targets)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// watchHealth begins to check a service, if it wants that.
func (n *Node) watchHealth(s *served) {
	if s.try == nil {
		return
	}
	log := n.log.With("service", string(s.Name))
	s.monitor = health.Start(s.try, s.checks, func(state health.State) {
		if state.Healthy {
			log.Info("targets work again: new sessions are taken")
			return
		}
		log.Warn("targets fail: new sessions are refused until they work", "err", state.Err)
	})
}

// stop ends the checks.
func (s *served) stop() {
	if s.monitor != nil {
		_ = s.monitor.Close() // never fails
	}
}

func (n *Node) stopServices() {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, s := range n.services {
		s.stop()
	}
}

// unavailable is why the service takes no new sessions now: dialers then turn to the
// next provider. The grant in the service's record stays, for it is the owner's.
func (s *served) unavailable() error {
	if s.draining.Load() {
		return sal.ErrDraining
	}
	if s.monitor != nil && !s.monitor.State().Healthy {
		return sal.ErrTargetUnreachable
	}
	return nil
}

// Drain makes a service take no new sessions, or take them again, over restarts too.
// Open ones go on. Serving the service anew ends it as well.
func (n *Node) Drain(nm name.Name, on bool) (ServiceState, error) {
	n.servicesMu.Lock()
	defer n.servicesMu.Unlock()
	srv := n.findService(nm)
	if srv == nil {
		return ServiceState{}, fmt.Errorf("%s: %w", nm, ErrNotServed)
	}
	srv.draining.Store(on)
	return n.stateOf(srv), n.saveServices()
}

// EndSessions ends the sessions that peers have open at a service: they hear that it
// is draining. It returns how many there were.
func (n *Node) EndSessions(nm name.Name) (int, error) {
	srv := n.findService(nm)
	if srv == nil {
		return 0, fmt.Errorf("%s: %w", nm, ErrNotServed)
	}
	return n.sal.EndServed(func(v sal.Served) error {
		if v.Service == srv.ID {
			return sal.ErrDraining
		}
		return nil
	}), nil
}
