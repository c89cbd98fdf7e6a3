package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVariable tells the copy of the program inside the namespaces that it is
// there, or the one outside why the kernel refused.
const (
	stageVariable = "SCN_NETNS"
	stageInside   = "inside"
	stageRefused  = "refused: "
)

// ErrRefused is wrapped by what Enter returns when the kernel refuses the
// namespaces.
var ErrRefused = errors.New("netns: the kernel refuses namespaces")

// Enter moves the program into namespaces of its own. It must be called before
// anything else, from main or TestMain. Outside, it runs the program again with
// the same arguments, waits for it and exits with its code; it returns only
// inside, or outside with an error that wraps ErrRefused.
func Enter() error {
	if os.Getenv(stageVariable) == stageInside {
		return prepare()
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	// The kernel kills the child when the thread that started it ends, so this
	// thread must last as long as the process.
	runtime.LockOSThread()
	cmd, err := reenter(os.Geteuid() != 0)
	if err != nil && os.Geteuid() == 0 {
		// Root without the capability, as in a container: a user namespace may do.
		cmd, err = reenter(true)
	}
	if err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		refusal := fmt.Errorf("%w: %w", ErrRefused, err)
		_ = os.Setenv(stageVariable, stageRefused+refusal.Error())
		return refusal
	}
	var wg sync.WaitGroup
	ended := make(chan error, 1)
	wg.Go(func() { ended <- cmd.Wait() })
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			wg.Wait()
			os.Exit(exitCode(err))
		}
	}
}

// Main is Enter for a TestMain: it runs the tests inside, or, where the kernel
// refuses, outside, so that those that need a lab say so. It does not return.
func Main(m interface{ Run() int }) {
	if err := Enter(); err != nil && !errors.Is(err, ErrRefused) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Inside reports whether the program runs in namespaces of its own, and if not,
// why.
func Inside() (bool, string) {
	stage := os.Getenv(stageVariable)
	if refusal, ok := strings.CutPrefix(stage, stageRefused); ok {
		return false, refusal
	}
	if stage != stageInside {
		return false, "netns.Enter was not called"
	}
	return true, ""
}

// reenter starts the program again in new namespaces.
func reenter(user bool) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"="+stageInside)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if user {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal())
		}
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// prepare makes the fresh namespaces usable: mounts propagate nowhere, /proc
// shows the new PID namespace, and /run is empty, for labs to keep their files
// where no other process sees them.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("netns: make mounts private: %w", err)
	}
	// A container may mask parts of /proc, and then the kernel refuses a fresh
	// one to a user namespace. The old one serves, with other process numbers.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("netns: mount a private /run: %w", err)
	}
	return os.MkdirAll(labsDir, 0o755)
}
