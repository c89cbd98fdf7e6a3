package underlay

import (
	"net/netip"
	"slices"

	"scn.alt/scn/sal/path"
)

// SetMapped gives the whole list of outside addresses at which a router says that it
// lets packets in to this socket. They are told and published like those of
// Config.Advertise, and behind them: whoever hears of one probes it before use.
func (s *Socket) SetMapped(addresses []netip.AddrPort) {
	addresses = slices.DeleteFunc(slices.Clone(addresses), func(a netip.AddrPort) bool {
		return !a.Addr().IsGlobalUnicast() || a.Port() == 0
	})
	old := s.mapped.Swap(&addresses)
	if old != nil && slices.Equal(*old, addresses) || old == nil && len(addresses) == 0 {
		return
	}
	s.call(func(e *engine) {
		for _, a := range e.machines() {
			e.step(a, path.Advertised{Locators: s.advertised()})
		}
	})
	s.announce()
}

// mappedAddresses are those SetMapped gave.
func (s *Socket) mappedAddresses() []netip.AddrPort {
	if p := s.mapped.Load(); p != nil {
		return *p
	}
	return nil
}
