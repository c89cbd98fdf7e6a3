package routing

import (
	"errors"
	"strings"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// errKey is returned for a DHT key that names no record of ours.
var errKey = errors.New("routing: unknown key")

// kind tells what a DHT key names.
type kind uint8

const (
	nodeKind kind = iota + 1
	serviceKind
	nameKind
	networkKind
)

// The DHT keys. What follows the prefix is the text form of the ID, or the name.
const (
	nodePrefix    = "/scn/node/"
	servicePrefix = "/scn/svc/"
	namePrefix    = "/scn/name/"
	networkPrefix = "/scn/network/"
)

// target is what a DHT key names: an ID's bytes, or a name.
type target struct {
	kind kind
	id   [identity.Size]byte
	name name.Name
}

func nodeKey(id identity.NodeID) string       { return nodePrefix + id.String() }
func serviceKey(id identity.ServiceID) string { return servicePrefix + id.String() }
func nameKey(n name.Name) string              { return namePrefix + string(n) }
func networkKey(id identity.NetworkID) string { return networkPrefix + id.String() }

// parseKey accepts each target in its one spelling only, so that no record can be
// stored twice.
func parseKey(key string) (target, error) {
	if len(key) > 128 {
		return target{}, errKey
	}
	var t target
	var err error
	var again string
	switch {
	case strings.HasPrefix(key, nodePrefix):
		var id identity.NodeID
		id, err = identity.ParseNodeID(key[len(nodePrefix):])
		t, again = target{kind: nodeKind, id: id}, nodeKey(id)
	case strings.HasPrefix(key, servicePrefix):
		var id identity.ServiceID
		id, err = identity.ParseServiceID(key[len(servicePrefix):])
		t, again = target{kind: serviceKind, id: id}, serviceKey(id)
	case strings.HasPrefix(key, namePrefix):
		t.kind = nameKind
		t.name, err = name.Parse(key[len(namePrefix):])
		again = nameKey(t.name)
	case strings.HasPrefix(key, networkPrefix):
		var id identity.NetworkID
		id, err = identity.ParseNetworkID(key[len(networkPrefix):])
		t, again = target{kind: networkKind, id: id}, networkKey(id)
	default:
		return target{}, errKey
	}
	if err != nil || again != key {
		return target{}, errKey
	}
	return t, nil
}
