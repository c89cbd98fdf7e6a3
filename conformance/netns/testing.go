package netns

import "os"

// TB is the part of testing.TB a lab needs.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Test returns a lab that lasts as long as the test and writes to its log. It
// skips the test where the kernel refuses namespaces; under continuous
// integration (CI=true) that is a failure.
func Test(t TB) *Lab {
	t.Helper()
	Require(t, func() error { return nil })
	lab, err := Open(Config{Fatal: t.Fatalf, Logf: t.Logf})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return lab
}

// Require skips the test unless it runs in namespaces of its own and check
// finds no fault; under continuous integration (CI=true) it fails instead.
func Require(t TB, check func() error) {
	t.Helper()
	inside, reason := Inside()
	if inside {
		err := check()
		if err == nil {
			return
		}
		reason = err.Error()
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("this cannot be skipped under CI: %s", reason)
	}
	t.Skipf("%s", reason)
}
