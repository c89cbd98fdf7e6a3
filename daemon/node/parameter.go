package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"scn.alt/scn/routing/network"
)

// Parameters of a network that nodes know. Others may stand in a network file of a
// newer version, and are left alone.
const (
	// RealZoneProof (bool) asks who registers a name that exists in the Internet's own
	// zone to prove control of it there.
	RealZoneProof = "real_zone_proof"
	// RelayTCPPort (integer) is where relays take tunnels from hosts without UDP.
	RelayTCPPort = "relay_tcp_port"
)

// parseParameter reads the text of a known parameter's value.
func parseParameter(name, text string) (any, error) {
	switch name {
	case RealZoneProof:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %s is true or false, not %q", ErrRequest, name, text)
		}
		return v, nil
	case RelayTCPPort:
		v, err := strconv.ParseUint(text, 10, 16)
		if err != nil || v == 0 {
			return nil, fmt.Errorf("%w: %s is a port from 1 to 65535, not %q", ErrRequest, name, text)
		}
		return int64(v), nil
	}
	return nil, fmt.Errorf("%w: no parameter %q; there are %s", ErrRequest, name, strings.Join([]string{RealZoneProof, RelayTCPPort}, ", "))
}

// SetParameter changes a parameter of the network; with an empty text it takes its
// default again. Only the founder can.
func (n *Node) SetParameter(ctx context.Context, name, text string) error {
	var value any
	if text != "" || !slices.Contains([]string{RealZoneProof, RelayTCPPort}, name) {
		var err error
		if value, err = parseParameter(name, text); err != nil {
			return err
		}
	}
	return n.changeNetwork(ctx, func(f *network.File) error {
		parameters := maps.Clone(f.Parameters)
		if parameters == nil {
			parameters = map[string]any{}
		}
		if value == nil {
			delete(parameters, name)
		} else {
			parameters[name] = value
		}
		f.Parameters = parameters
		return nil
	})
}
