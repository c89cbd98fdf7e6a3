package proofofservice_test

import (
	"fmt"
	"time"

	"scn.alt/scn/proofofservice"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// A core is told of an epoch and of the time; it tells whom to visit when, and what
// to post at the end.
func Example() {
	core, err := proofofservice.NewCore(proofofservice.Keys{
		Account: identity.AccountID{1}, VRF: identity.NewKeyFromSeed([32]byte{2}), Rows: [32]byte{3},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	roster, err := evidence.NewRoster(evidence.Rules{}.WithDefaults(), 5, []evidence.Provider{{Node: identity.NodeID{1}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	began := time.Unix(1_800_000_000, 0)
	core.Begin(proofofservice.Epoch{Frame: evidence.Frame{Epoch: 7, Roster: roster}, Began: began}, began)

	now := core.Next(began)
	for now.Before(began.Add(10 * time.Minute)) {
		for _, visit := range core.Tick(now, now.Sub(began), 10) {
			// The visit failed, and so did the control probe: it says nothing.
			outcome, err := core.Finish(visit.Epoch, visit.Row, proofofservice.Sighting{
				Verdict: evidence.Absent, Start: now, End: now, Control: proofofservice.Silent, ControlAt: now,
			}, now)
			fmt.Println(visit.Planned.Kind, outcome.Verdict, outcome.Reason, err)
		}
		now = core.Next(now)
	}
	core.Tick(now, now.Sub(began), 10)
	for _, message := range core.Ready(now) {
		fmt.Printf("%T\n", message)
	}
	// Output:
	// reach void uplink <nil>
	// proofofservice.Commitment
}
