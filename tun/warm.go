package tun

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"scn.alt/scn/routing/identity"
)

// maxWarm bounds the ports remembered; a host with more just waits a round trip.
const maxWarm = 4096

// warmPorts remembers which ports accepted a moment ago.
type warmPorts struct {
	keep time.Duration // constant; not positive turns it off

	mu    sync.Mutex // guards below
	until map[servicePort]time.Time
}

type servicePort struct {
	device  netip.Addr // who it accepted, if not this host: others may be refused
	service identity.ServiceID
	port    uint16
}

func newWarmPorts(keep time.Duration) *warmPorts {
	return &warmPorts{keep: keep, until: make(map[servicePort]time.Time)}
}

// accepted notes that the port accepted.
func (w *warmPorts) accepted(device netip.Addr, s identity.ServiceID, port uint16, now time.Time) {
	if w.keep <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := servicePort{device, s, port}
	if _, ok := w.until[key]; !ok && len(w.until) >= maxWarm {
		for k, t := range w.until {
			if now.After(t) {
				delete(w.until, k)
			}
		}
		if len(w.until) >= maxWarm {
			return
		}
	}
	w.until[key] = now.Add(w.keep)
}

// failed brings the holding back for the port.
func (w *warmPorts) failed(device netip.Addr, s identity.ServiceID, port uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.until, servicePort{device, s, port})
}

// is reports whether a SYN to the port may be answered at once.
func (w *warmPorts) is(device netip.Addr, s identity.ServiceID, port uint16, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.until[servicePort{device, s, port}]
	return ok && now.Before(t)
}

// forgetDevices brings the holding back for every device: the rules for them changed.
func (w *warmPorts) forgetDevices() {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.until, func(k servicePort, _ time.Time) bool { return k.device.IsValid() })
}
