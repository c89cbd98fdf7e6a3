package naming

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ReverseZones returns the zones below in-addr.arpa and ip6.arpa that hold the PTR
// records of the prefixes, without final dot and in order: whole octets and
// nibbles, so a prefix between two bounds yields several zones.
func ReverseZones(prefixes ...netip.Prefix) []string {
	var zones []string
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()
		unit := 4
		if p.Addr().Is4() {
			unit = 8
		}
		bits := (p.Bits() + unit - 1) / unit * unit
		b := p.Addr().AsSlice()
		for range 1 << (bits - p.Bits()) {
			addr, _ := netip.AddrFromSlice(b)
			zones = append(zones, strings.Join(reverseLabels(addr, bits), "."))
			// The next prefix: add one at the lowest bit of the bits kept.
			for i, add := (bits+7)/8-1, 1<<((8-bits%8)%8); i >= 0 && add != 0; i-- {
				sum := int(b[i]) + add
				b[i], add = byte(sum), sum>>8
			}
		}
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

// reverseLabels returns the labels of the reverse name of an address's first bits.
func reverseLabels(addr netip.Addr, bits int) []string {
	var labels []string
	b := addr.AsSlice()
	if addr.Is4() {
		for _, octet := range b[:bits/8] {
			labels = append(labels, strconv.Itoa(int(octet)))
		}
		slices.Reverse(labels)
		return append(labels, "in-addr", "arpa")
	}
	for i := range bits / 4 {
		labels = append(labels, fmt.Sprintf("%x", b[i/2]>>(4-i%2*4)&15))
	}
	slices.Reverse(labels)
	return append(labels, "ip6", "arpa")
}

// parseReverse reads the labels of a reverse name, in lower case. bits says how
// much of the address they give; ok is false for any other name, and for one with
// more labels than an address has.
func parseReverse(labels []string) (addr netip.Addr, bits int, ok bool) {
	n := len(labels) - 2
	if n < 0 || labels[n+1] != "arpa" {
		return addr, 0, false
	}
	var b [16]byte
	switch labels[n] {
	case "in-addr":
		if n > 4 {
			return addr, 0, false
		}
		for i := range n {
			label := labels[n-1-i]
			octet, err := strconv.ParseUint(label, 10, 8)
			if err != nil || len(label) > 1 && label[0] == '0' {
				return addr, 0, false
			}
			b[i] = byte(octet)
		}
		return netip.AddrFrom4([4]byte(b[:4])), n * 8, true
	case "ip6":
		if n > 32 {
			return addr, 0, false
		}
		for i := range n {
			label := labels[n-1-i]
			nibble, err := strconv.ParseUint(label, 16, 4)
			if err != nil || len(label) != 1 {
				return addr, 0, false
			}
			b[i/2] |= byte(nibble) << (4 - i%2*4)
		}
		return netip.AddrFrom16(b), n * 4, true
	}
	return addr, 0, false
}
