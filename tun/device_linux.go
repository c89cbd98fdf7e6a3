package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"scn.alt/scn/tun/address"
)

// mtu is the device's: the kernel then hands over TCP segments of 64 KiB whole. The
// device is local, so it says nothing about any path.
const mtu = 65535

// queueLength is how many packets the kernel keeps for us. Its default of 500 loses
// SYNs when some thousand connections begin at once. What waits is charged to the
// senders' socket buffers, so a long queue costs no more memory than they may use.
const queueLength = 10000

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenNone = 1

// tunPath is the kernel's TUN driver.
const tunPath = "/dev/net/tun"

// device is the TUN device. It is not persistent: the kernel removes it, with all
// addresses and routes, when its last queue is closed.
type device struct {
	name   string
	index  int
	has6   bool
	queues []*os.File
}

// openDevice creates the device, gives it the own addresses of both ranges, and brings
// it up. The kernel adds the routes to the ranges by itself.
func openDevice(name string, queues int, pool, prefix6 netip.Prefix) (_ *device, err error) {
	d := &device{name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	for range queues {
		q, err := openQueue(name, queues > 1)
		if err != nil {
			return nil, err
		}
		d.queues = append(d.queues, q)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("tun: find device %s: %w", name, err)
	}
	d.index = link.Attrs().Index
	// No link-local address: nobody is on this link, and its advertisements are noise.
	_ = netlink.LinkSetIP6AddrGenMode(link, addrGenNone) // no IPv6, no such mode
	_ = netlink.LinkSetTxQLen(link, queueLength)         // the default works too
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return nil, fmt.Errorf("tun: set MTU of %s: %w", name, err)
	}
	if err := addAddress(link, pool); err != nil {
		return nil, err
	}
	d.has6 = enableIPv6(name) && addAddress(link, prefix6) == nil
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("tun: bring up %s: %w", name, err)
	}
	return d, nil
}

// openQueue attaches one more queue to the device. No child process inherits it: a
// helper that outlives us must not keep the device alive.
func openQueue(name string, multi bool) (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ifc, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: name, MultiQueue: multi},
	})
	if err != nil {
		return nil, explainOpen(name, err)
	}
	f, ok := ifc.ReadWriteCloser.(*os.File)
	if !ok {
		ifc.Close()
		return nil, fmt.Errorf("tun: the device is a %T, not a file", ifc.ReadWriteCloser)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	if err := raw.Control(func(fd uintptr) { syscall.CloseOnExec(int(fd)) }); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// explainOpen turns an error of the driver into what to do about it.
func explainOpen(name string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w: %s: %w; load the driver with \"modprobe tun\" "+
			"(in a container: --device %s), or run without it: --no-tun", ErrNoDevice, tunPath, err, tunPath)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: %w; run as root or with CAP_NET_ADMIN, or run without it: --no-tun", ErrPermission, err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%w: %s: %w", ErrNameInUse, name, err)
	}
	return fmt.Errorf("tun: create device %s: %w", name, err)
}

func addAddress(link netlink.Link, prefix netip.Prefix) error {
	own := address.Own(prefix, ownNumber)
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP: own.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), own.BitLen()),
	}}
	if own.Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else is on this link: usable at once
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("tun: add address %s to %s: %w", own, link.Attrs().Name, err)
	}
	return nil
}

// enableIPv6 turns IPv6 on for the device where the host's default is off, and reports
// whether the kernel has it at all.
func enableIPv6(name string) bool {
	file := "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6"
	b, err := os.ReadFile(file)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	if strings.TrimSpace(string(b)) == "0" {
		return true
	}
	return os.WriteFile(file, []byte("0"), 0) == nil
}

// forward lets the kernel forward what this process writes to the device, which is what
// devices get as answers. The setting goes with the device.
func (d *device) forward() error {
	file := "/proc/sys/net/ipv4/conf/" + d.name + "/forwarding"
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		return fmt.Errorf("tun: forward from %s to devices: %w", d.name, err)
	}
	return nil
}

func (d *device) close() error {
	errs := make([]error, 0, len(d.queues))
	for _, q := range d.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// checkHost looks for what would make Open fail, and changes nothing.
func checkHost(cfg Config) error {
	var errs []error
	f, err := os.OpenFile(tunPath, os.O_RDWR, 0)
	if err != nil {
		errs = append(errs, explainOpen(cfg.Name, err))
	} else {
		f.Close()
	}
	if !mayCreate() {
		errs = append(errs, explainOpen(cfg.Name, syscall.EPERM))
	}
	// Routes on a device of the wanted name go with it: the name is the fault to report.
	errs = append(errs, checkName(cfg.Name),
		checkConflicts(cfg.Pool, cfg.Name), checkConflicts(address.Prefix(cfg.Network), cfg.Name))
	return errors.Join(errs...)
}

// mayCreate reports whether this process has CAP_NET_ADMIN in effect.
func mayCreate() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true // let the kernel decide later
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

func checkName(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		return fmt.Errorf("tun: look for device %s: %w", name, err)
	}
	return fmt.Errorf("%w: %s is a %s device of this host; is another scn running? Else choose another name",
		ErrNameInUse, name, link.Type())
}

// checkConflicts looks for routes and addresses of this host that overlap the range.
// A route to everything, or to a quarter of it as VPNs set, is no conflict: ours is
// more specific.
func checkConflicts(prefix netip.Prefix, except string) error {
	family := netlink.FAMILY_V4
	if prefix.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	var conflict error
	err := netlink.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE,
		func(r netlink.Route) bool {
			if r.Dst == nil || r.Flags&unix.RTM_F_CLONED != 0 {
				return true
			}
			dst, ok := netip.AddrFromSlice(r.Dst.IP)
			ones, _ := r.Dst.Mask.Size()
			other := netip.PrefixFrom(dst.Unmap(), ones)
			if !ok || ones < 3 || !other.Overlaps(prefix) || r.Type == unix.RTN_MULTICAST {
				return true
			}
			name := "no device"
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				if link.Attrs().Name == except {
					return true
				}
				name = "device " + link.Attrs().Name
			}
			advice := "choose another pool, as 10.213.0.0/16"
			if prefix.Addr().Is6() {
				advice = "it is the network's own prefix, so that route has to go"
			}
			conflict = fmt.Errorf("%w: %s overlaps the route to %s on %s (table %d); %s",
				ErrConflict, prefix, other, name, r.Table, advice)
			return false
		})
	if err != nil && conflict == nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		if family == netlink.FAMILY_V6 && errors.Is(err, syscall.EAFNOSUPPORT) {
			return nil
		}
		return fmt.Errorf("tun: list routes: %w", err)
	}
	return conflict
}

// listen opens the listener that turned flows arrive at. It hears only what comes in
// by the device, which is what this process wrote into it, and what programs of this
// host send to it; the accept loop resets the latter.
func (d *device) listen(ctx context.Context, own netip.Addr) (*net.TCPListener, error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // inherited from the listener, which saves four calls for each flow
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), d.name) }); cerr != nil {
				return cerr
			}
			return err
		},
	}
	lc.SetMultipathTCP(false) // more than one path makes no sense here, and costs
	l, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(own, 0).String())
	if err != nil {
		return nil, fmt.Errorf("tun: listen for turned flows on %s: %w", own, err)
	}
	tl, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("tun: the listener is a %T", l)
	}
	return tl, nil
}

// prepare binds a listener to the device and sets its keep-alive, which what it accepts
// inherits. The peer is this host's kernel, which says when it goes away; a probe is
// needed only against a packet lost in a full queue.
func prepare(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
	}
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 120},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// isReset reports whether the kernel has closed the socket, as it does on a valid reset.
func isReset(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == unix.BPF_TCP_CLOSE
	}); err != nil {
		return false
	}
	return closed
}

// hostAddresses lists the addresses of this host.
func hostAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, ip.Unmap())
		}
	}
	return addrs, nil
}
