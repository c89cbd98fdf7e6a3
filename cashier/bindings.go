package cashier

import (
	"context"
	"errors"
	"net/http"

	"scn.alt/scn/routing/identity"
)

// maxBindings is how many bindings of one node are told.
const maxBindings = 256

// Bindings is what a ledger says of the bindings of a node, as signed by its
// authority.
type Bindings struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Node    identity.NodeID    `cbor:"2,keyasint"`
	// Bindings are in order of services, that of account and node alone the first; at
	// most 256.
	Bindings []Binding `cbor:"3,keyasint"`
	Height   uint64    `cbor:"4,keyasint"`
	Time     int64     `cbor:"5,keyasint"`
}

// Binding says that an account speaks from a node, for a service if it is not zero.
type Binding struct {
	Account identity.AccountID `cbor:"1,keyasint"`
	Node    identity.NodeID    `cbor:"2,keyasint"`
	Service identity.ServiceID `cbor:"3,keyasint,omitzero"`
	// Height and Time are those of the block that made it.
	Height uint64 `cbor:"4,keyasint"`
	Time   int64  `cbor:"5,keyasint"`
}

// Bindings says which accounts speak from a node.
func (l *Ledger) Bindings(_ context.Context, node identity.NodeID) (Bindings, error) {
	out := Bindings{Network: l.cfg.Network, Node: node, Time: l.now().Unix()}
	err := l.snapshot(func(s rows, h head) error {
		out.Height = h.Height
		var failure error
		prefix := bindingKey(node, identity.ServiceID{})[:1+identity.Size]
		err := s.scan(prefix, nil, func(key, value []byte) bool {
			var row bindingRow
			if failure = identity.Unmarshal(value, &row); failure != nil {
				failure = errors.Join(ErrCorrupt, failure)
				return false
			}
			out.Bindings = append(out.Bindings, Binding{row.Account, node, identity.ServiceID(key[len(prefix):]), row.Height, row.Time})
			return len(out.Bindings) < maxBindings
		})
		return errors.Join(failure, err)
	})
	return out, err
}

func (s *Server) bindings(r *http.Request) (any, error) {
	node, err := identity.ParseNodeID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	b, err := s.ledger.Bindings(r.Context(), node)
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeBindings, b)
}

// Bindings asks which accounts speak from a node.
func (c *Client) Bindings(ctx context.Context, node identity.NodeID) (Bindings, error) {
	var out Bindings
	err := c.call(ctx, http.MethodGet, pathNodes+node.String()+"/bindings", nil, maxReply, func(b []byte) error {
		out = Bindings{}
		if err := openAnswer(typeBindings, b, c.cfg.Authorities, &out); err != nil {
			return err
		}
		if out.Network != c.cfg.Network || out.Node != node {
			return errors.New("bindings of another network or node")
		}
		return nil
	})
	return out, err
}
