package daemon

import (
	"fmt"
	"os"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// keep are the capabilities a running daemon needs: addresses, routes and socket
// buffers (NET_ADMIN), and DNS on port 53 of a TUN that comes back
// (NET_BIND_SERVICE).
var keep = []cap.Value{cap.NET_ADMIN, cap.NET_BIND_SERVICE}

// cutCapabilities drops, in every thread and for good, all capabilities of root
// but those in keep. It does nothing for other users, who have none.
func cutCapabilities() error {
	if os.Geteuid() != 0 {
		return nil
	}
	now := cap.GetProc()
	want := cap.NewSet()
	for _, v := range keep {
		has, err := now.GetFlag(cap.Permitted, v)
		if err != nil || !has {
			continue // a container withheld it; what needs it has failed or works without
		}
		if err := want.SetFlag(cap.Permitted, true, v); err != nil {
			return err
		}
		if err := want.SetFlag(cap.Effective, true, v); err != nil {
			return err
		}
	}
	if err := want.SetProc(); err != nil {
		return fmt.Errorf("cut capabilities: %w", err)
	}
	return nil
}
