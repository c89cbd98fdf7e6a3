package naming

import (
	"slices"
	"strings"

	"scn.alt/scn/naming/message"
)

// place is where a host name lies with respect to the zones.
type place struct {
	// zone is "" outside, otherwise the zone or Alt, in lower case.
	zone string
	// label is the last label before the zone, in lower case; "" at the apex.
	label string
	// sub are the labels before it, in lower case and in order.
	sub []string
}

// locate finds the place of a host name given by its labels in lower case.
func locate(labels []string, zone string) place {
	for _, z := range [...]string{zone, Alt} {
		of := strings.Split(z, ".")
		at := len(labels) - len(of)
		switch {
		case at < 0 || !slices.Equal(labels[at:], of):
			continue
		case at == 0:
			return place{zone: z}
		}
		return place{zone: z, label: labels[at-1], sub: labels[:at-1]}
	}
	return place{}
}

// textLabels splits a host name, with or without final dot.
func textLabels(host string) []string {
	return strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
}

// wireLabels splits a name in wire form, which message.Parse has checked.
func wireLabels(name []byte) []string {
	name = message.AppendLower(make([]byte, 0, 256), name)
	labels := make([]string, 0, 8)
	for len(name) > 0 && name[0] != 0 {
		n := 1 + int(name[0])
		labels = append(labels, string(name[1:n]))
		name = name[n:]
	}
	return labels
}
