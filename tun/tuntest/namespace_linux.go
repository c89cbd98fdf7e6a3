package tuntest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// The child of Main finds this in its environment: "yes", or why there is no namespace.
const envNamespace = "SCN_TUNTEST_NAMESPACE"

// Main runs the tests in a new network namespace, and a new user namespace where this
// user may not make one otherwise: it executes the test binary again. Fuzzing stays
// where it is. Call it from TestMain and exit with what it returns.
func Main(m *testing.M) int {
	if state := os.Getenv(envNamespace); state != "" || fuzzing() {
		if state == "yes" {
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, "tuntest: bring up loopback:", err)
				return 1
			}
		}
		return m.Run()
	}
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envNamespace+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(1, exit.ExitCode())
	}
	os.Setenv(envNamespace, "no: "+err.Error())
	return m.Run()
}

// Require skips a test, with the reason, where there is no namespace of its own or no
// TUN driver.
func Require(tb testing.TB) {
	tb.Helper()
	if state := os.Getenv(envNamespace); state != "yes" {
		tb.Skipf("no network namespace: %q", state)
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		tb.Skip("no TUN driver:", err)
	}
	f.Close()
}

func fuzzing() bool {
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.fuzz=") || strings.HasPrefix(a, "-test.fuzzworker") {
			return true
		}
	}
	return false
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
