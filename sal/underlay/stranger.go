package underlay

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"scn.alt/scn/sal/path"
)

// writeStranger sends a handshake, Retry or stateless reset packet to a real
// address. The source is the one the stranger's packet came to: it was handed up
// as packet info and comes back with the answer, so that nothing is kept here.
func (s *Socket) writeStranger(b []byte, anc ancillary, addr *net.UDPAddr) {
	remote, ok := realAddr(addr)
	if !ok || remote.Addr().Is6() && !s.v6 && !path.IsRelayed(remote) {
		s.metrics.dropUnknownPeer.Add(1)
		return
	}
	r := s.newRoute(path.Route{
		Link:   path.Link{Local: anc.local, Interface: anc.ifindex},
		Remote: remote,
	}, unknownMTU)
	if s.narrow.has(remote, s.now()) {
		r.limit.Store(min(r.limit.Load(), r.cautious()))
	}
	s.metrics.sent.Add(1)
	s.swallowed(s.transmit(r, b, anc.segment, anc.ecn))
}

// narrowTable remembers strangers whose handshake came in fragments: the answer
// is cut too. It has a fixed number of slots; strangers that fall on one slot
// displace each other, which costs them a handshake timer.
type narrowTable struct {
	seed  maphash.Seed
	slots [512]atomic.Pointer[narrowEntry]
}

type narrowEntry struct {
	remote netip.AddrPort
	until  int64
}

const narrowTime = 10 * time.Second

func (t *narrowTable) slot(a netip.AddrPort) *atomic.Pointer[narrowEntry] {
	return &t.slots[maphash.Comparable(t.seed, a)%uint64(len(t.slots))]
}

func (t *narrowTable) has(a netip.AddrPort, now int64) bool {
	e := t.slot(a).Load()
	return e != nil && e.remote == a && now < e.until
}

func (t *narrowTable) add(a netip.AddrPort, now int64) {
	if t.has(a, now+int64(narrowTime/2)) {
		return
	}
	t.slot(a).Store(&narrowEntry{remote: a, until: now + int64(narrowTime)})
}
