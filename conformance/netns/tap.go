package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tunDevice is where the kernel hands out TUN and TAP devices.
const tunDevice = "/dev/net/tun"

// tapDevice is a TAP device: one Read or Write is one Ethernet frame.
type tapDevice struct{ *os.File }

// openTAP makes a TAP device in the network namespace of the calling thread. It
// vanishes when it is closed.
func openTAP(name string) (*tapDevice, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make TAP device %s: %w", name, err)
	}
	return &tapDevice{os.NewFile(uintptr(fd), tunDevice)}, nil
}

// TUNAccess returns why TUN devices cannot be made here, or nil. A program that
// needs them asks before it builds anything.
func TUNAccess() error {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w (as root: modprobe tun; chmod 0666 %s, which is what udev does)", err, tunDevice)
	}
	return f.Close()
}
