package underlay

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wakeup is told by the kernel that the host may have slept: a timer of the wall clock
// that never rings, and is cancelled whenever that clock jumps against the monotonic
// one. It does when the host wakes up, and when somebody sets the clock; which of the
// two it was the suspendClock tells. Until then nothing runs.
type wakeup struct{ timer *os.File }

// openWakeup returns nil where the kernel does not have it: the engine's tick, which
// looks for itself, is then all there is.
func openWakeup() *wakeup {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil
	}
	w := &wakeup{timer: os.NewFile(uintptr(fd), "wakeup")}
	if w.arm() != nil {
		_ = w.timer.Close()
		return nil
	}
	return w
}

// never is when the timer rings; it is armed again then.
const never = 10 * 365 * 24 * time.Hour

func (w *wakeup) arm() error {
	raw, err := w.timer.SyscallConn()
	if err != nil {
		return err
	}
	later := time.Now().Add(never).UnixNano()
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(later)}
	var settime error
	err = raw.Control(func(fd uintptr) {
		settime = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil)
	})
	return errors.Join(err, settime)
}

// run calls changed at each jump until ctx ends, after which the timer is closed.
func (w *wakeup) run(ctx context.Context, changed func()) {
	stop := context.AfterFunc(ctx, func() { _ = w.timer.Close() })
	defer func() {
		stop()
		_ = w.timer.Close() // again, if stop was too late
	}()
	var b [8]byte
	for ctx.Err() == nil {
		_, err := w.timer.Read(b[:])
		switch {
		case errors.Is(err, unix.ECANCELED):
			changed()
		case err != nil:
			return // closed
		}
		if w.arm() != nil {
			return
		}
	}
}
