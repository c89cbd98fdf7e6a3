package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Resolution is what a text names.
type Resolution struct {
	// Name is the registered name or petname, empty for an ID.
	Name    name.Name
	Service identity.ServiceID
	// Source is "id", "petname" or "registry".
	Source string
	// Age is how long ago the registry confirmed it, 0 for IDs and petnames.
	Age time.Duration
	// Expired says that the name's lease has ended: it resolves a while longer, and
	// then no more unless its owner renews it.
	Expired bool
}

// Resolve finds the service a text names: "files", "files.top", "files.scn.alt", a
// petname, or the text form of an ID with or without zone. A node ID names the
// service every node has under its own key.
func (n *Node) Resolve(ctx context.Context, text string) (Resolution, error) {
	text = strings.TrimSuffix(text, ".")
	if !strings.Contains(text, ".") {
		if id, err := identity.ParseNodeID(text); err == nil {
			return Resolution{Service: identity.ServiceOf(id), Source: "id"}, nil
		}
		text += "." + n.names.Zone()
	}
	r, err := n.names.Resolve(ctx, text)
	switch {
	case err == nil:
	case errors.Is(err, naming.ErrMistyped):
		return Resolution{}, fmt.Errorf("%w: %w", ErrRequest, err)
	case errors.Is(err, naming.ErrOutside):
		if _, err := name.Parse(strings.TrimSuffix(text, "."+n.names.Zone())); err != nil && strings.HasSuffix(text, "."+n.names.Zone()) {
			return Resolution{}, fmt.Errorf("%w: %w", ErrRequest, err)
		}
		return Resolution{}, fmt.Errorf("%s: %w: not a name of the overlay (NAME, NAME.%s, NAME.scn.alt or an ID)", text, ErrNotFound, n.names.Zone())
	case errors.Is(err, naming.ErrNotRegistered), errors.Is(err, naming.ErrNotFound):
		return Resolution{}, fmt.Errorf("%s: %w: the name is not registered", text, ErrNotFound)
	default:
		return Resolution{}, fmt.Errorf("%w: %w", ErrUnknownName, err)
	}
	out := Resolution{Name: r.Name, Service: r.Service, Source: string(r.Source), Expired: r.Record.Expired(n.Now())}
	if !r.Checked.IsZero() {
		out.Age = n.Now().Sub(r.Checked)
	}
	return out, nil
}

// Providers returns a service's record and where its providers are now, waiting
// for fresh answers as long as ctx allows but no longer than needed.
func (n *Node) Providers(ctx context.Context, service identity.ServiceID) (record.ServiceRecord, []record.Candidate, error) {
	rec, _, err := n.router.LookupService(ctx, service)
	if errors.Is(err, routing.ErrNotFound) {
		return rec, nil, fmt.Errorf("%w: nobody has published a record of service %s", ErrNotFound, service)
	}
	if err != nil {
		return rec, nil, err
	}
	var best []record.Candidate
	for candidates, err := range n.router.Resolve(ctx, service) {
		if err == nil {
			best = candidates
		}
		if ctx.Err() != nil || located(best) {
			break
		}
	}
	return rec, best, nil
}

// located reports whether every candidate has an address, or a relay.
func located(list []record.Candidate) bool {
	for _, c := range list {
		if len(c.Locators) == 0 && len(c.Relays) == 0 {
			return false
		}
	}
	return len(list) > 0
}

// askRegistry asks DHT and authority about a name, past every cache.
func (n *Node) askRegistry(ctx context.Context, nm name.Name) (naming.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The authority's word is the newest; the DHT may lag behind a transfer.
	answer, err := registry{n}.fromAuthority(ctx, nm)
	if err == nil && answer.State != naming.Unknown {
		return answer, nil
	}
	fromDHT, dhtErr := registry{n}.fromDHT(ctx, nm)
	if dhtErr == nil {
		return fromDHT, nil
	}
	return answer, errors.Join(err, dhtErr)
}
