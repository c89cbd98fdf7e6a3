package verdict_test

import (
	"context"
	"fmt"
	"time"

	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/routing/identity"
)

// A program decides; its answer is good for a while.
func ExampleGate() {
	gate, err := verdict.New(verdict.Config{
		Judge: func(_ context.Context, q verdict.Question) (verdict.Answer, error) {
			fmt.Println("asked about", q.Service, q.Port)
			return verdict.Answer{Kind: verdict.Allow, Cache: time.Hour}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer gate.Close()
	for range 2 {
		answer, release, err := gate.Hold(context.Background(), verdict.Key{Service: "files", Port: 80}, identity.ServiceID{})
		release()
		fmt.Println(answer.Kind, err)
	}
	// Output:
	// asked about files 80
	// allow <nil>
	// allow <nil>
}
