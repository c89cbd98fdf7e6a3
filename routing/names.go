package routing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// PublishName keeps a name record alive: its owner and the authority do so. A newer
// one found in the DHT replaces it. Names are not remembered over a restart. With
// ErrNoPeers or ErrNotStored the record is kept all the same.
func (r *Router) PublishName(ctx context.Context, n name.Name, raw []byte) (Receipt, error) {
	o, err := r.validator.open(nameKey(n), raw)
	if err != nil {
		return Receipt{}, err
	}
	return r.publish(ctx, r.hold(nameKey(n), raw, o, identity.PrivateKey{}, time.Now().Add(backstop)))
}

// KeepName is PublishName without waiting, for many names at once.
func (r *Router) KeepName(n name.Name, raw []byte) error {
	o, err := r.validator.open(nameKey(n), raw)
	if err != nil {
		return err
	}
	r.hold(nameKey(n), raw, o, identity.PrivateKey{}, time.Now())
	return nil
}

// ForgetName ends the keeping of a name record.
func (r *Router) ForgetName(n name.Name) { r.drop(nameKey(n)) }

// LookupName returns the first valid record of a name, and its bytes. The record
// may be a tombstone (Released). ErrNotFound means that nodes answered and none had
// it, which anybody could bring about by dropping records: it does not prove that
// the name is free.
func (r *Router) LookupName(ctx context.Context, n name.Name) (name.Record, []byte, error) {
	e, err := r.lookup(ctx, nameKey(n))
	if err != nil {
		return name.Record{}, nil, fmt.Errorf("look up %s: %w", n, err)
	}
	return e.opened.decoded.(name.Record), e.value, nil
}

// lookup is first within the time a lookup may take.
func (r *Router) lookup(ctx context.Context, key string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	e, err := r.first(ctx, key)
	if errors.Is(err, context.Canceled) && r.life.Err() != nil {
		err = ErrClosed
	}
	return e, err
}
