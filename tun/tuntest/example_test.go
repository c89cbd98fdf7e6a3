package tuntest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/tun/tuntest"
)

func ExampleOverlay() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	service := identity.ServiceID{1}
	o := &tuntest.Overlay{}
	o.Serve(service, "tcp", 80, l.Addr().String())
	c, err := o.Dial(context.Background(), service, 80)
	fmt.Println(err)
	c.Close()
	_, err = o.Dial(context.Background(), service, 81)
	fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
	// Output:
	// <nil>
	// true
}
