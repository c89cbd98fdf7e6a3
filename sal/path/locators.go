package path

import (
	"encoding/binary"
	"net/netip"
)

// locatorAddress is the kind of a locator that is an address. Kind 0x02 is
// reserved for a relay (its NodeID, 32 bytes).
const locatorAddress = 0x01

// locators is the whole list of addresses the sender may be reached at, best
// first. A list with a higher sequence replaces the one before.
type locators struct {
	sequence uint32
	count    int
	list     [MaxLocators]netip.AddrPort
}

func (l *locators) addresses() []netip.AddrPort { return l.list[:l.count] }

func (l *locators) size() int { return 4 + l.count*(2+addressSize) }

func (l *locators) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, l.sequence)
	for _, a := range l.addresses() {
		b = appendAddress(append(b, locatorAddress, addressSize), a)
	}
	return b
}

// parseLocators keeps the first MaxLocators addresses that can be somebody's and
// skips everything else of well-formed length.
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
		if kind != locatorAddress {
			continue
		}
		if len(value) != addressSize {
			return locators{}, errMalformed
		}
		if a := parseAddress(value); usableRemote(a) && l.count < MaxLocators {
			l.list[l.count] = a
			l.count++
		}
	}
	return l, nil
}
