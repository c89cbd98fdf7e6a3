package health_test

import (
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/daemon/health"
)

// Three failures in a row make a service fail, two successes make it healthy again.
func ExampleTracker() {
	t := health.NewTracker(health.Config{})
	now := time.Unix(0, 0)
	for _, err := range []error{nil, errors.New("refused"), errors.New("refused"), errors.New("refused"), nil, nil} {
		t.Observe(err, now)
		fmt.Print(t.State().Healthy, " ")
	}
	// Output: true true true false false true
}
