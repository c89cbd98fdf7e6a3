package control

import (
	"context"
	"net"
)

// ownerKey marks the context of a call whose caller is the daemon's own user.
type ownerKey struct{}

// ConnContext is for the http.Server of the control socket: it notes who is at the
// other end, for Owner.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if isOwner(c) {
		return context.WithValue(ctx, ownerKey{}, true)
	}
	return ctx
}

// Owner reports whether a call comes from the user the daemon runs as, or from root.
// The socket's group may do all but what runs programs with the daemon's rights.
func Owner(ctx context.Context) bool {
	owner, _ := ctx.Value(ownerKey{}).(bool)
	return owner
}
