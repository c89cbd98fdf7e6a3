package routing

import (
	"context"
	"fmt"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// NewestService asks the DHT for a service's record past the cache and waits for
// the lookup's end, some seconds at most: for whoever acts upon a grant just made.
func (r *Router) NewestService(ctx context.Context, service identity.ServiceID) (record.ServiceRecord, []byte, error) {
	e, ok, err := r.newest(ctx, serviceKey(service), serviceFetch)
	if ok {
		return e.opened.decoded.(record.ServiceRecord), e.value, nil
	}
	if err == nil {
		err = ErrNotFound
	}
	return record.ServiceRecord{}, nil, fmt.Errorf("look up service %s: %w", service, err)
}
