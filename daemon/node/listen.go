package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Listen provides one stream port of a service in this process: the name is
// registered if it is free, and this node granted. Unlike Serve it does not last
// beyond the listener. Everybody may connect; RemoteAddr of a connection is a
// sal.Addr with the caller's node ID, for the program to decide.
func (n *Node) Listen(ctx context.Context, text string, port uint16) (net.Listener, error) {
	id, key, err := n.provide(ctx, text)
	if err != nil {
		return nil, err
	}
	l, err := n.sal.Listen(id, port)
	if err != nil {
		return nil, err
	}
	return l, n.publishPort(ctx, key, record.Port{Number: port, Protocol: record.TCP})
}

// provide claims and registers a name for this node.
func (n *Node) provide(ctx context.Context, text string) (identity.ServiceID, identity.PrivateKey, error) {
	nm, err := name.Parse(text)
	if err != nil {
		return identity.ServiceID{}, identity.PrivateKey{}, err
	}
	n.servicesMu.Lock()
	defer n.servicesMu.Unlock()
	key, owned, err := n.claim(ctx, nm)
	if err != nil {
		return identity.ServiceID{}, identity.PrivateKey{}, err
	}
	if owned && !key.registered {
		err := n.register(ctx, nm, key.secret, 0)
		if err != nil && !errors.Is(err, ErrPending) { // reached by its ID until it has its name
			key.undoIfRefused(err)
			return identity.ServiceID{}, identity.PrivateKey{}, err
		}
	}
	return key.id, key.secret, nil
}

// publishPort adds a port of this node to the service's record. A provider without
// the service's key has been granted already, ports included.
func (n *Node) publishPort(ctx context.Context, key identity.PrivateKey, p record.Port) error {
	if key.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, _, err := n.router.UpdateService(ctx, key, func(rec record.ServiceRecord, sequence uint64) record.ServiceRecord {
		rec = rec.Grant(record.Grant{Node: n.ID(), Weight: 100}, sequence)
		rec.Ports = mergePorts(rec.Ports, []record.Port{p})
		return rec
	})
	if err = ignoreUnstored(err); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}
