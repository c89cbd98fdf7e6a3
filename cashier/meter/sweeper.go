package meter

import (
	"sync"
	"sync/atomic"
	"time"
)

// The sweeper looks at a part of the sessions each second, and so at each in every
// round.
const (
	sweepParts = 10
	sweepEvery = time.Second
	sweepRound = sweepParts * sweepEvery
)

// sweeper does what every open session needs now and then: receipts, usage records,
// and an end to those that nobody pays for.
type sweeper struct {
	m     *Meter
	next  atomic.Uint64
	parts [sweepParts]struct {
		mu       sync.Mutex
		accounts map[*Account]struct{}
	}
}

func newSweeper(m *Meter) *sweeper {
	s := &sweeper{m: m}
	for i := range s.parts {
		s.parts[i].accounts = make(map[*Account]struct{})
	}
	return s
}

func (s *sweeper) add(a *Account) {
	a.shard = int(s.next.Add(1) % sweepParts)
	p := &s.parts[a.shard]
	p.mu.Lock()
	p.accounts[a] = struct{}{}
	p.mu.Unlock()
}

func (s *sweeper) remove(a *Account) {
	p := &s.parts[a.shard]
	p.mu.Lock()
	delete(p.accounts, a)
	p.mu.Unlock()
}

// len returns how many sessions are open.
func (s *sweeper) len() (n int) {
	for i := range s.parts {
		s.parts[i].mu.Lock()
		n += len(s.parts[i].accounts)
		s.parts[i].mu.Unlock()
	}
	return n
}

func (s *sweeper) run() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var accounts []*Account
	for i := 0; ; i = (i + 1) % sweepParts {
		select {
		case <-tick.C:
		case <-s.m.ctx.Done():
			return
		}
		accounts = accounts[:0]
		p := &s.parts[i]
		p.mu.Lock()
		for a := range p.accounts {
			accounts = append(accounts, a)
		}
		p.mu.Unlock()
		for _, a := range accounts {
			s.look(a)
		}
		clear(accounts)
	}
}

func (s *sweeper) look(a *Account) {
	if !a.session.Initiator {
		s.m.issuer.issue(a, false)
		if since := a.refused.Load(); since != 0 && s.m.now()-time.Duration(since) > s.m.cfg.PaymentTimeout {
			if a.refused.CompareAndSwap(since, 0) && !a.solvent() {
				s.m.counters.unpaid.Add(1)
				a.fail(ErrUnpaid)
			}
		}
	}
	a.mu.Lock()
	due := s.m.cfg.Clock().Sub(a.reported.at) >= s.m.cfg.UsageInterval
	a.mu.Unlock()
	if due {
		a.report(false)
	}
}

// solvent reports whether the session could go on by now.
func (a *Account) solvent() bool {
	a.mu.Lock()
	t := a.till
	a.mu.Unlock()
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.payee != nil && t.payee.Available(t.m.now()) > 0
}
