package routing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// serviceFetch is how long an update of a service waits for what the DHT has. A
// newer record found later is merged then.
const serviceFetch = 3 * time.Second

// UpdateService changes a service's record with the service's own key: it fetches
// the newest record, joins it with what is known here, has change make the next
// one, signs and publishes it. Change gets a sequence number for the grants it
// makes (record.ServiceRecord.Grant and Revoke); service, sequence and validity of
// what it returns are set by UpdateService. Updates of one service do not overlap.
//
// The record stays kept, and is merged with what others with the same key write,
// until ForgetService. With ErrNoPeers or ErrNotStored the update is made all the
// same, and put when there are peers.
func (r *Router) UpdateService(ctx context.Context, key identity.PrivateKey, change func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord) (record.ServiceRecord, Receipt, error) {
	service := key.Service()
	done, err := r.turn(ctx, service)
	if err != nil {
		return record.ServiceRecord{}, Receipt{}, err
	}
	defer done()
	base, err := r.newestService(ctx, service)
	if err != nil {
		return record.ServiceRecord{}, Receipt{}, err
	}
	sequence, err := r.sequence.next(r.cfg.Clock(), base.Sequence)
	if err != nil {
		return record.ServiceRecord{}, Receipt{}, err
	}
	next := change(base, sequence)
	next.Service, next.Sequence = service, sequence
	value, o, err := r.sealService(key, next)
	if err != nil {
		return record.ServiceRecord{}, Receipt{}, err
	}
	if err := r.saveService(service, value); err != nil {
		return record.ServiceRecord{}, Receipt{}, err
	}
	item := r.hold(serviceKey(service), value, o, key, time.Now().Add(backstop))
	receipt, err := r.publish(ctx, item)
	return o.decoded.(record.ServiceRecord), receipt, err
}

// OwnService has the record of a service kept whose key this node holds, without
// changing it: it is signed anew in time, and merged with what others write. It is
// for the start, when the record is known from StateDir or from the DHT.
func (r *Router) OwnService(key identity.PrivateKey) {
	r.hold(serviceKey(key.Service()), nil, opened{}, key, time.Now())
}

// PublishService keeps a signed ServiceRecord alive without its key, as a provider
// does. A newer one found in the DHT replaces it. With ErrNoPeers or ErrNotStored
// it is kept all the same.
func (r *Router) PublishService(ctx context.Context, service identity.ServiceID, raw []byte) (Receipt, error) {
	o, err := r.validator.open(serviceKey(service), raw)
	if err != nil {
		return Receipt{}, err
	}
	if err := r.saveService(service, raw); err != nil {
		return Receipt{}, err
	}
	return r.publish(ctx, r.hold(serviceKey(service), raw, o, identity.PrivateKey{}, time.Now().Add(backstop)))
}

// ForgetService ends the keeping of a service's record. The DHT drops it in time.
func (r *Router) ForgetService(service identity.ServiceID) {
	r.drop(serviceKey(service))
	if r.cfg.StateDir != "" {
		if err := os.Remove(r.servicePath(service)); err != nil && !os.IsNotExist(err) {
			r.log.Warn("forget service", "err", err)
		}
	}
}

// LookupService returns the first valid record of a service, and its bytes.
func (r *Router) LookupService(ctx context.Context, service identity.ServiceID) (record.ServiceRecord, []byte, error) {
	e, err := r.lookup(ctx, serviceKey(service))
	if err != nil {
		return record.ServiceRecord{}, nil, fmt.Errorf("look up service %s: %w", service, err)
	}
	return e.opened.decoded.(record.ServiceRecord), e.value, nil
}

// turn waits for the service's turn to be updated.
func (r *Router) turn(ctx context.Context, service identity.ServiceID) (done func(), err error) {
	r.mu.Lock()
	t := r.turns[service]
	if t == nil {
		t = make(chan struct{}, 1)
		r.turns[service] = t
	}
	r.mu.Unlock()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.life.Done():
		return nil, ErrClosed
	}
}

// newestService joins all versions of a service's record this node can find. With
// none it returns an empty record.
func (r *Router) newestService(ctx context.Context, service identity.ServiceID) (record.ServiceRecord, error) {
	key := serviceKey(service)
	if _, _, err := r.newest(ctx, key, serviceFetch); ctx.Err() != nil {
		return record.ServiceRecord{}, err
	}
	base := record.ServiceRecord{Service: service}
	// An expired record still tells the sequence and the tombstones.
	if e, ok := r.known(key); ok {
		base = e.opened.decoded.(record.ServiceRecord)
	}
	if e, ok := r.cache.get(key); ok {
		base = record.Merge(base, e.opened.decoded.(record.ServiceRecord))
	}
	return base, nil
}

// signService makes the next version of a record this node has the key of.
func (r *Router) signService(key identity.PrivateKey, rec record.ServiceRecord) ([]byte, error) {
	sequence, err := r.sequence.next(r.cfg.Clock(), rec.Sequence)
	if err != nil {
		return nil, err
	}
	rec.Sequence = sequence
	value, o, err := r.sealService(key, rec)
	if err != nil {
		return nil, err
	}
	if err := r.saveService(rec.Service, value); err != nil {
		return nil, err
	}
	r.hold(serviceKey(rec.Service), value, o, key, time.Now().Add(backstop))
	return value, nil
}

func (r *Router) sealService(key identity.PrivateKey, rec record.ServiceRecord) ([]byte, opened, error) {
	rec.NotAfter = r.cfg.Clock().Add(record.ServiceValidity).Unix()
	value, err := rec.Seal(key)
	if err != nil {
		return nil, opened{}, fmt.Errorf("sign service %s: %w", rec.Service, err)
	}
	o, err := r.validator.open(serviceKey(rec.Service), value)
	if err != nil {
		return nil, opened{}, fmt.Errorf("sign service %s: %w", rec.Service, err)
	}
	return value, o, nil
}

// settleService joins a kept service record with a newer one found in the DHT.
// Without the key, or when theirs says all that ours does, theirs is taken over;
// otherwise both are joined under a higher sequence number.
func (r *Router) settleService(item *kept, key identity.PrivateKey, ours opened, theirs entry) {
	mine, _ := ours.decoded.(record.ServiceRecord)
	yours := theirs.opened.decoded.(record.ServiceRecord)
	joined := record.Merge(mine, yours)
	if key.IsZero() || sameContent(joined, yours) {
		r.replace(item, theirs)
		if err := r.saveService(yours.Service, theirs.value); err != nil {
			r.log.Warn("save service record", "err", err)
		}
		return
	}
	joined.Sequence = max(mine.Sequence, yours.Sequence)
	if _, err := r.signService(key, joined); err != nil {
		// Joined, they are beyond a limit: the newer one holds.
		r.log.Warn("join service records", "service", yours.Service.Short(), "err", err)
		r.replace(item, theirs)
		return
	}
	r.counters.servicesMerged.Add(1)
	r.again(item)
}

// sameContent reports whether two records say the same, whenever they were signed.
func sameContent(a, b record.ServiceRecord) bool {
	empty := func(n int, v any) any {
		if n == 0 {
			return nil
		}
		return v
	}
	return reflect.DeepEqual(empty(len(a.Grants), a.Grants), empty(len(b.Grants), b.Grants)) &&
		reflect.DeepEqual(empty(len(a.Tombstones), a.Tombstones), empty(len(b.Tombstones), b.Tombstones)) &&
		reflect.DeepEqual(empty(len(a.Ports), a.Ports), empty(len(b.Ports), b.Ports))
}

// servicesDir holds the kept service records, one file each, named by service ID.
const servicesDir = "services"

func (r *Router) servicePath(service identity.ServiceID) string {
	return filepath.Join(r.cfg.StateDir, servicesDir, service.String())
}

func (r *Router) saveService(service identity.ServiceID, value []byte) error {
	if r.cfg.StateDir == "" {
		return nil
	}
	if err := renameio.WriteFile(r.servicePath(service), value, 0o600); err != nil {
		return fmt.Errorf("save service record: %w", err)
	}
	return nil
}

// loadServices takes the kept service records up again after a restart.
func (r *Router) loadServices() error {
	if r.cfg.StateDir == "" {
		return nil
	}
	dir := filepath.Join(r.cfg.StateDir, servicesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		service, err := identity.ParseServiceID(f.Name())
		if err != nil || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		value, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		o, err := r.validator.open(serviceKey(service), value)
		if err != nil && !errors.Is(err, record.ErrExpired) {
			r.log.Warn("kept service record ignored", "service", service.Short(), "err", err)
			continue
		}
		r.hold(serviceKey(service), value, o, identity.PrivateKey{}, time.Now())
	}
	return nil
}
