package node

import (
	"context"
	"errors"
	"fmt"

	"scn.alt/scn/cashier"
	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// registry answers for names from the DHT and from the authority's ledger. It
// implements naming.Registry.
type registry struct{ n *Node }

var _ naming.Registry = registry{}

// Lookup implements naming.Registry. Both sources are asked at once: a signed
// record from the DHT settles it in one round trip, and only the authority can say
// that a name is free.
func (r registry) Lookup(ctx context.Context, nm name.Name) (naming.Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		answer naming.Answer
		err    error
	}
	results := make(chan result, 2)
	sources := []func(context.Context, name.Name) (naming.Answer, error){r.fromDHT, r.fromAuthority}
	for _, ask := range sources {
		r.n.tasks.Go(func() {
			answer, err := ask(ctx, nm)
			results <- result{answer, err}
		})
	}
	var errs []error
	for range sources {
		got := <-results
		if got.err == nil && got.answer.State != naming.Unknown {
			return got.answer, nil
		}
		if got.err != nil {
			errs = append(errs, got.err)
		}
	}
	return naming.Answer{}, errors.Join(errs...)
}

func (r registry) fromDHT(ctx context.Context, nm name.Name) (naming.Answer, error) {
	rec, _, err := r.n.router.LookupName(ctx, nm)
	if err != nil {
		return naming.Answer{}, fmt.Errorf("DHT: %w", err)
	}
	return answerOf(rec), nil
}

func (r registry) fromAuthority(ctx context.Context, nm name.Name) (naming.Answer, error) {
	rec, err := r.n.ledgerLookup(ctx, nm)
	if errors.Is(err, cashier.ErrNotRegistered) {
		return naming.Answer{State: naming.NotRegistered}, nil
	}
	if err != nil {
		return naming.Answer{}, fmt.Errorf("authority: %w", err)
	}
	return answerOf(rec), nil
}

func answerOf(rec name.Record) naming.Answer {
	if rec.Released || rec.Suspended {
		return naming.Answer{State: naming.NotRegistered}
	}
	return naming.Answer{State: naming.Registered, Record: rec}
}

// serviceFinder finds the records of services. It implements naming.Services.
type serviceFinder struct{ n *Node }

var _ naming.Services = serviceFinder{}

// Lookup implements naming.Services.
func (s serviceFinder) Lookup(ctx context.Context, service identity.ServiceID) (naming.Service, error) {
	rec, _, err := s.n.router.LookupService(ctx, service)
	if errors.Is(err, routing.ErrNotFound) {
		return naming.Service{}, naming.ErrNoService
	}
	if err != nil {
		return naming.Service{}, err
	}
	out := naming.Service{Ports: rec.Ports, Sequence: rec.Sequence}
	for _, g := range rec.Grants {
		out.Providers = append(out.Providers, record.Candidate{Node: g.Node, Priority: g.Priority, Weight: g.Weight})
	}
	if len(out.Providers) > 1 {
		s.n.pay.market.Known(service) // asks for prices: who looks a service up is about to dial it
	}
	return out, nil
}
