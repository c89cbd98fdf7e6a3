package sal

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

func TestPick(t *testing.T) {
	opt := func(priority, weight uint16, change ...func(*option)) option {
		o := option{Candidate: record.Candidate{Priority: priority, Weight: weight}, reachable: true}
		for _, f := range change {
			f(&o)
		}
		return o
	}
	suspect := func(o *option) { o.suspect = true }
	nowhere := func(o *option) { o.reachable = false }
	at := func(d time.Duration) func(*option) { return func(o *option) { o.rtt = d } }
	for _, c := range []struct {
		name    string
		options []option
		final   bool
		want    int // share of option 0 in percent; -1 if nothing is picked
	}{
		{"none", nil, true, -1},
		{"one", []option{opt(1, 0)}, true, 100},
		{"priority before weight", []option{opt(1, 1), opt(2, 1000)}, true, 100},
		{"weight", []option{opt(1, 30), opt(1, 70)}, true, 30},
		{"weight zero beside others", []option{opt(1, 0), opt(1, 70)}, true, 0},
		{"weight before distance", []option{opt(1, 50, at(time.Millisecond)), opt(1, 50, at(time.Second))}, true, 50},
		{"distance where weights say nothing", []option{opt(1, 0, at(time.Millisecond)), opt(1, 0, at(time.Second))}, true, 100},
		{"unknown distance", []option{opt(1, 0), opt(1, 0)}, true, 50},
		{"suspect last", []option{opt(9, 1), opt(1, 1, suspect)}, true, 100},
		{"nothing but suspects", []option{opt(1, 1, suspect), opt(2, 1, suspect)}, true, 100},
		{"without address, better answers to come", []option{opt(1, 1, nowhere)}, false, -1},
		{"without address, none to come", []option{opt(1, 1, nowhere)}, true, 100},
		{"without address last", []option{opt(2, 1), opt(1, 1, nowhere)}, true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			first, none := 0, 0
			for range 10_000 {
				switch pick(c.options, c.final, random.Int64N) {
				case 0:
					first++
				case -1:
					none++
				}
			}
			if c.want < 0 {
				if none != 10_000 {
					t.Errorf("picked %d times", 10_000-none)
				}
				return
			}
			if d := first - c.want*100; d < -150 || d > 150 || none > 0 {
				t.Errorf("option 0 was picked %d of 10000 times, want %d %%", first, c.want)
			}
		})
	}
}

// TestErrorMapping: every error answers errors.Is for the standard library's.
func TestErrorMapping(t *testing.T) {
	remote := func(code quic.ApplicationErrorCode) error {
		return &quic.ApplicationError{Remote: true, ErrorCode: code}
	}
	for _, c := range []struct {
		name string
		got  error
		want error
	}{
		{"reset", streamError(&quic.StreamError{ErrorCode: codeReset, Remote: true}), syscall.ECONNRESET},
		{"closed", streamError(&quic.StreamError{ErrorCode: codeClosed, Remote: true}), syscall.EPIPE},
		{"refusal", streamError(&quic.StreamError{ErrorCode: codeStatus + 1, Remote: true}), syscall.ECONNREFUSED},
		{"status of the future", streamError(&quic.StreamError{ErrorCode: codeStatus + 99, Remote: true}), syscall.ECONNREFUSED},
		{"deadline", streamError(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded},
		{"end", streamError(io.EOF), io.EOF},
		{"peer shut down", streamError(remote(closeShutdown)), syscall.ECONNRESET},
		{"peer restarted", streamError(&quic.StatelessResetError{}), syscall.ECONNRESET},
		{"silence", streamError(&quic.IdleTimeoutError{}), syscall.ECONNRESET},
		{"not admitted", streamError(remote(closeNotAdmitted)), syscall.EACCES},
		{"peer full", streamError(remote(closeOverCapacity)), syscall.EAGAIN},
		{"this node closed", streamError(&quic.ApplicationError{ErrorCode: closeShutdown}), net.ErrClosed},
		{"no handshake", linkError(&quic.HandshakeTimeoutError{}, false), syscall.EHOSTUNREACH},
		{"transport closed", linkError(quic.ErrTransportClosed, false), net.ErrClosed},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v is not %v", c.name, c.got, c.want)
		}
		if !errors.Is(c.want, net.ErrClosed) && errors.Is(c.got, net.ErrClosed) {
			t.Errorf("%s: %v looks closed on this side", c.name, c.got)
		}
	}
	for s := range Status(20) {
		err := statusError(s)
		if (err == nil) != (s == StatusAccepted) {
			t.Errorf("%v: %v", s, err)
		}
		if s > StatusAccepted && s <= StatusTimeout && errorStatus(err) != s {
			t.Errorf("%v becomes %v on its way", s, errorStatus(err))
		}
	}
	if errorStatus(errors.New("anything")) != StatusRefused || errorStatus(nil) != StatusRefused {
		t.Error("what is not known is not a refusal")
	}
	if !errorIsTimeout(ErrTargetTimeout) || errorIsTimeout(ErrRefused) {
		t.Error("Timeout")
	}
}

func errorIsTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestConfigValidate(t *testing.T) {
	err := Config{
		MaxWindow: 1 << 40, InitialWindow: 1, MemoryBudget: -1, MaxSessionsPerPeer: -1, Stagger: time.Hour, OpenTimeout: -1,
	}.Validate()
	faults, ok := err.(interface{ Unwrap() []error })
	if !ok || len(faults.Unwrap()) < 7 {
		t.Errorf("not every fault is reported: %v", err)
	}
	if err := (Config{Key: identity.NewKeyFromSeed([32]byte{1})}).Validate(); err != nil {
		t.Errorf("the minimum: %v", err)
	}
}

func TestClockOffsetsForget(t *testing.T) {
	var c clockOffsets
	now := time.Unix(1000, 0)
	if d, n := c.median(); d != 0 || n != 0 {
		t.Errorf("%s of %d", d, n)
	}
	for i := range 3 * maxOffsets {
		c.observe(identity.NodeID{byte(i), byte(i >> 8)}, now.Add(time.Duration(i)*time.Second), now, 0)
	}
	d, n := c.median()
	if n != maxOffsets || d != time.Duration(2*maxOffsets+maxOffsets/2)*time.Second-time.Second/2 {
		t.Errorf("%s of %d", d, n)
	}
}
