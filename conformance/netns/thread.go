package netns

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// thread is an operating system thread that lives in namespaces of its own and
// keeps them alive. Processes are started on it, and so inherit them.
type thread struct {
	work chan func()
	wg   sync.WaitGroup // the thread

	// constant after newThread
	network *os.File
	mounts  *os.File
}

// newThread returns a thread in new namespaces (unix.CLONE_NEW…); prepare runs
// on it first.
func newThread(flags int, prepare func() error) (*thread, error) {
	t := &thread{work: make(chan func())}
	ready := make(chan error)
	t.wg.Go(func() { t.loop(flags, prepare, ready) }) // ends when work is closed
	if err := <-ready; err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *thread) loop(flags int, prepare func() error, ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	err := t.enter(flags)
	if err == nil {
		err = prepare()
	}
	ready <- err
	for f := range t.work {
		f()
	}
}

func (t *thread) enter(flags int) error {
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	var err error
	if t.network, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	t.mounts, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}

// run runs f on the thread and waits for it. f must not block for long, since
// all processes of the host are started here.
func (t *thread) run(f func()) {
	done := make(chan struct{})
	t.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// do runs f on a fresh thread in the same network and mount namespaces, and
// waits for it. Any number may run at a time.
func (t *thread) do(f func()) error {
	var wg sync.WaitGroup
	var failed error
	finished := false
	wg.Go(func() {
		runtime.LockOSThread() // never unlocked, as in loop
		if failed = t.join(); failed == nil {
			f()
			finished = true
		}
	})
	wg.Wait()
	if failed == nil && !finished {
		runtime.Goexit() // f called t.FailNow or the like, and means its caller
	}
	return failed
}

func (t *thread) join() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("netns: unshare: %w", err)
	}
	if err := unix.Setns(int(t.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("netns: enter the mount namespace: %w", err)
	}
	if err := unix.Setns(int(t.network.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("netns: enter the network namespace: %w", err)
	}
	return nil
}

func (t *thread) close() {
	close(t.work)
	t.wg.Wait()
	_ = t.network.Close()
	_ = t.mounts.Close()
}
