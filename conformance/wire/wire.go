package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// maxFrame bounds what is read from a device at once: the largest Ethernet
// frame a TAP device without offloads hands out.
const maxFrame = 65_536 + headerSize

// Config configures a Wire. The zero value is a perfect cable.
type Config struct {
	// Seed fixes every random choice. Each direction draws from its own stream.
	Seed uint64
	// There is what happens from the first end to the second.
	There Conditions
	// Back is what happens from the second end to the first.
	Back Conditions
}

// Both returns a Config whose two directions are alike.
func Both(seed uint64, c Conditions) Config { return Config{Seed: seed, There: c, Back: c} }

// Wire carries frames between two packet devices. Its methods may be called
// from any goroutine.
type Wire struct {
	devices [2]io.ReadWriteCloser
	ways    [2]*way
	wg      sync.WaitGroup
	once    sync.Once
	failed  error // why Close failed; written once
}

// Open joins two packet devices: one Read or Write is one frame. The wire owns
// both and closes them.
func Open(a, b io.ReadWriteCloser, cfg Config) (*Wire, error) {
	there, err := NewLine(cfg.Seed, cfg.There)
	if err != nil {
		return nil, fmt.Errorf("wire, there: %w", err)
	}
	back, err := NewLine(cfg.Seed+1, cfg.Back)
	if err != nil {
		return nil, fmt.Errorf("wire, back: %w", err)
	}
	w := &Wire{devices: [2]io.ReadWriteCloser{a, b}}
	w.ways[0] = newWay(a, b, there)
	w.ways[1] = newWay(b, a, back)
	for _, way := range w.ways {
		w.wg.Go(way.receive) // ends when its device is closed
		w.wg.Go(way.deliver) // ends when stop is closed
	}
	return w, nil
}

// Set changes the conditions of both directions.
func (w *Wire) Set(there, back Conditions) error {
	return errors.Join(w.ways[0].set(there), w.ways[1].set(back))
}

// Counters returns what became of the frames of both directions.
func (w *Wire) Counters() (there, back Counters) {
	return w.ways[0].counters(), w.ways[1].counters()
}

// Close takes the wire out, closes both devices and waits for its goroutines.
func (w *Wire) Close() error {
	w.once.Do(func() {
		for _, way := range w.ways {
			close(way.stop)
		}
		w.failed = errors.Join(w.devices[0].Close(), w.devices[1].Close())
		w.wg.Wait()
	})
	return w.failed
}

// way is one direction at work.
type way struct {
	from io.Reader
	to   io.Writer
	wake chan struct{} // has room for one: a frame was pushed
	stop chan struct{} // closed by Close

	mu   sync.Mutex // guards line
	line *Line
}

func newWay(from io.Reader, to io.Writer, line *Line) *way {
	return &way{from: from, to: to, line: line, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (y *way) set(c Conditions) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.line.Set(c)
}

func (y *way) counters() Counters {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.line.Counters()
}

// receive reads frames until the device is closed.
func (y *way) receive() {
	buf := make([]byte, maxFrame)
	for {
		n, err := y.from.Read(buf)
		if err != nil {
			return
		}
		frame := append([]byte(nil), buf[:n]...)
		y.mu.Lock()
		y.line.Push(time.Now(), frame)
		y.mu.Unlock()
		select {
		case y.wake <- struct{}{}:
		default:
		}
	}
}

// deliver writes each frame when its time has come. A device that refuses a
// frame (an interface that is down) has lost it, as a real one would.
func (y *way) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		y.mu.Lock()
		frame := y.line.Pop(time.Now())
		next, pending := y.line.Next()
		y.mu.Unlock()
		if frame != nil {
			_, _ = y.to.Write(frame)
			continue
		}
		wait := time.Hour
		if pending {
			wait = time.Until(next)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-y.wake:
		case <-y.stop:
			return
		}
	}
}
