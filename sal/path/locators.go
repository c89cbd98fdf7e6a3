package path

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"scn.alt/scn/routing/identity"
)

// Kinds of locators.
const (
	locatorAddress = 0x01
	locatorRelay   = 0x02 // the relay's node ID
)

// locators is the whole list of addresses and of relays the sender may be reached
// at, best first. A list with a higher sequence replaces the one before.
type locators struct {
	sequence   uint32
	count      int
	list       [MaxLocators]netip.AddrPort
	relayCount int
	relayList  [MaxRelays]identity.NodeID
}

func (l *locators) addresses() []netip.AddrPort { return l.list[:l.count] }

func (l *locators) relays() []identity.NodeID { return l.relayList[:l.relayCount] }

func (l *locators) size() int {
	return 4 + l.count*(2+addressSize) + l.relayCount*(2+identity.Size)
}

func (l *locators) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, l.sequence)
	for _, a := range l.addresses() {
		b = appendAddress(append(b, locatorAddress, addressSize), a)
	}
	for _, r := range l.relays() {
		b = append(append(b, locatorRelay, identity.Size), r[:]...)
	}
	return b
}

// parseLocators keeps the first MaxLocators addresses that can be somebody's and
// the first MaxRelays relays, each once, and skips everything else of well-formed
// length. What stands for a relay in this process is nobody's address elsewhere.
func parseLocators(b []byte) (locators, error) {
	if len(b) < 4 {
		return locators{}, errMalformed
	}
	l := locators{sequence: binary.BigEndian.Uint32(b)}
	b = b[4:]
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(b[1]) {
			return locators{}, errMalformed
		}
		kind, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch kind {
		case locatorAddress:
			if len(value) != addressSize {
				return locators{}, errMalformed
			}
			if a := parseAddress(value); usableRemote(a) && !IsRelayed(a) && l.count < MaxLocators {
				l.list[l.count] = a
				l.count++
			}
		case locatorRelay:
			if len(value) != identity.Size {
				return locators{}, errMalformed
			}
			if id := identity.NodeID(value); !id.IsZero() && l.relayCount < MaxRelays && !slices.Contains(l.relays(), id) {
				l.relayList[l.relayCount] = id
				l.relayCount++
			}
		}
	}
	return l, nil
}
