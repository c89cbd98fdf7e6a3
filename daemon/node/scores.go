package node

import (
	"context"
	"sync"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/routing/identity"
)

const (
	// scoresFresh is how long the ledger's word on a service's providers is good,
	// scoresKept how long it stands in where the ledger is away.
	scoresFresh = 30 * time.Second
	scoresKept  = time.Hour
	// scoresTimeout bounds one question; maxScored the services remembered.
	scoresTimeout = 10 * time.Second
	maxScored     = 4096
)

// scoreCache holds what the ledger says of services' providers. Dials ask it and never
// wait: what is not known is there for the next one.
type scoreCache struct {
	mu       sync.Mutex // guards below
	services map[identity.ServiceID]*scored
}

type scored struct {
	scores map[identity.NodeID]cashier.ProviderScore
	at     time.Time // of the answer
	tried  time.Time
	asking bool
}

// knownScores returns what is known now, and has it asked for behind when it is old.
func (n *Node) knownScores(service identity.ServiceID) map[identity.NodeID]cashier.ProviderScore {
	now := n.Now()
	c := &n.scores
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entryLocked(service)
	if !e.asking && n.books != nil && now.Sub(e.tried).Abs() >= scoresFresh {
		e.asking = true
		n.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), scoresTimeout)
			defer cancel()
			if err := n.fetchScores(ctx, service); err != nil {
				n.log.Debug("scores not known", "service", service.Short(), "err", err)
			}
		})
	}
	if now.Sub(e.at).Abs() > scoresKept {
		return nil
	}
	return e.scores
}

func (c *scoreCache) entryLocked(service identity.ServiceID) *scored {
	e := c.services[service]
	if e != nil {
		return e
	}
	if c.services == nil {
		c.services = make(map[identity.ServiceID]*scored)
	}
	if len(c.services) >= maxScored {
		for other, o := range c.services { // any: it is asked for again
			if !o.asking {
				delete(c.services, other)
				break
			}
		}
	}
	e = &scored{}
	c.services[service] = e
	return e
}

// fetchScores asks the ledger now.
func (n *Node) fetchScores(ctx context.Context, service identity.ServiceID) error {
	list, err := n.Scores(ctx, service)
	scores := make(map[identity.NodeID]cashier.ProviderScore, len(list))
	for _, s := range list {
		if s.Listed {
			scores[s.Provider.Node] = s
		}
	}
	c := &n.scores
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entryLocked(service)
	e.asking, e.tried = false, n.Now()
	if err != nil {
		return err
	}
	e.scores, e.at = scores, e.tried
	return nil
}

// KnownScores returns how the providers of a service stand, as far as it is known
// without waiting.
func (n *Node) KnownScores(service identity.ServiceID) map[identity.NodeID]cashier.ProviderScore {
	return n.knownScores(service)
}
