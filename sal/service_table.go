package sal

import (
	"sync"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// serviceTable says who serves what at this node.
type serviceTable struct {
	mu       sync.RWMutex // guards below
	services map[identity.ServiceID]*serviceEntry
}

type serviceEntry struct {
	all   Handler // every port that has no listener of its own; nil if none
	ports map[portKey]Handler
}

type portKey struct {
	port     uint16
	protocol record.Protocol
}

// handle sets the handler of every port of a service.
func (t *serviceTable) handle(service identity.ServiceID, h Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entry(service).all = h
}

// listen sets the handler of one port.
func (t *serviceTable) listen(service identity.ServiceID, key portKey, h Handler) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(service)
	if e.ports[key] != nil {
		return ErrInUse
	}
	e.ports[key] = h
	return nil
}

// entry returns the entry of a service, made if need be. mu must be held.
func (t *serviceTable) entry(service identity.ServiceID) *serviceEntry {
	e := t.services[service]
	if e == nil {
		if t.services == nil {
			t.services = make(map[identity.ServiceID]*serviceEntry)
		}
		e = &serviceEntry{ports: make(map[portKey]Handler)}
		t.services[service] = e
	}
	return e
}

// unhandle removes the handler of every port.
func (t *serviceTable) unhandle(service identity.ServiceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.services[service]; e != nil {
		e.all = nil
		t.tidy(service, e)
	}
}

// unlisten removes the handler of one port.
func (t *serviceTable) unlisten(service identity.ServiceID, key portKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.services[service]; e != nil {
		delete(e.ports, key)
		t.tidy(service, e)
	}
}

func (t *serviceTable) tidy(service identity.ServiceID, e *serviceEntry) {
	if e.all == nil && len(e.ports) == 0 {
		delete(t.services, service)
	}
}

// lookup finds the handler of a port, or the status to refuse with.
func (t *serviceTable) lookup(service identity.ServiceID, port uint16, protocol record.Protocol) (Handler, Status) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.services[service]
	if e == nil {
		return nil, StatusUnknownService
	}
	if h := e.ports[portKey{port, protocol}]; h != nil {
		return h, StatusAccepted
	}
	if e.all != nil {
		return e.all, StatusAccepted
	}
	return nil, StatusRefused
}

// provides reports whether anything of a service is served here.
func (t *serviceTable) provides(service identity.ServiceID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.services[service] != nil
}
