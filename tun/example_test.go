package tun_test

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun"
	"scn.alt/scn/tun/tuntest"
)

// Needs the right to create a device, so it is compiled and not run.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	edge, err := tun.Open(tun.Config{
		Overlay: &tuntest.Overlay{}, // a *sal.Node, adapted, in the daemon
		Network: identity.NetworkID{1},
		State:   "/var/lib/scn/addresses",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer edge.Close()
	v4, v6, err := edge.Assign(ctx, identity.ServiceID{2})
	fmt.Println("any program on this host reaches the service at", v4, v6, err)
	if err := edge.Run(ctx); err != nil {
		fmt.Println(err)
	}
}
