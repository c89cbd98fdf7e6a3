package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// Network returns the network file in force.
func (n *Node) Network() network.File { return *n.network.Load() }

// adopt keeps a newer network file that routing found.
func (n *Node) adopt(f network.File) {
	n.inForce(&f)
	if err := n.dir.WriteNetwork(f.Bytes()); err != nil {
		n.log.Error("network file not kept", "err", err)
		return
	}
	n.log.Info("newer network file adopted", "sequence", f.Sequence)
}

// inForce makes a network file the one in force, for those connected already too.
func (n *Node) inForce(f *network.File) {
	n.network.Store(f)
	if sessions := n.clock.Load(); sessions != nil {
		sessions.Readmit()
	}
}

// admit decides whether a node may speak to this one.
func (n *Node) admit(peer identity.NodeID) error {
	if !n.Network().Admits(peer) {
		return fs.ErrPermission
	}
	return nil
}

// Admit lets a node into the network: admission becomes a list, and the new file
// spreads through the DHT. Only the founder can.
func (n *Node) Admit(ctx context.Context, peer identity.NodeID) error {
	return n.changeNetwork(ctx, func(f *network.File) error {
		if f.Admission == network.List && slices.Contains(f.Members, peer) {
			return fmt.Errorf("%w: the node is admitted already", ErrRequest)
		}
		f.Admission = network.List
		if !slices.Contains(f.Members, peer) {
			f.Members = append(slices.Clone(f.Members), peer)
		}
		return nil
	})
}

// Remove takes a node's admission back. Only the founder can.
func (n *Node) Remove(ctx context.Context, peer identity.NodeID) error {
	return n.changeNetwork(ctx, func(f *network.File) error {
		if f.Admission == network.Open {
			return fmt.Errorf("%w: the network is open to everybody; the first \"scn network admit\" makes admission a list", ErrRequest)
		}
		if !slices.Contains(f.Members, peer) {
			return fmt.Errorf("%w: no such member", ErrNotFound)
		}
		f.Members = slices.DeleteFunc(slices.Clone(f.Members), func(m identity.NodeID) bool { return m == peer })
		return nil
	})
}

func (n *Node) changeNetwork(ctx context.Context, change func(*network.File) error) error {
	key, err := n.dir.NetworkKey()
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFounder
	}
	if err != nil {
		return err
	}
	n.networkMu.Lock()
	defer n.networkMu.Unlock()
	f := n.Network()
	if err := change(&f); err != nil {
		return err
	}
	f.Sequence++
	signed, err := f.Sign(key)
	if err != nil {
		return err
	}
	// On disk first: a number that left this node must never be used again.
	if err := n.dir.WriteNetwork(signed.Bytes()); err != nil {
		return err
	}
	n.inForce(&signed)
	if _, err := n.router.PublishNetwork(ctx, signed); err != nil {
		n.log.Warn("network file not yet stored by others; it is tried again", "err", err)
	}
	return nil
}
