package evidence_test

import (
	"fmt"

	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// An inspector makes its plan, reports, and everybody checks the report.
func Example() {
	rules := evidence.Rules{}.WithDefaults()
	providers := []evidence.Provider{
		{Service: identity.ServiceID{1}, Node: identity.NodeID{1}},
		{Service: identity.ServiceID{1}, Node: identity.NodeID{2}},
	}
	roster, err := evidence.NewRoster(rules, 3, providers)
	if err != nil {
		fmt.Println(err)
		return
	}
	epoch := evidence.Frame{Epoch: 7, Seed: evidence.Seed{5}, Roster: roster}

	// The inspector, before and during the epoch.
	secret := identity.NewKeyFromSeed([32]byte{1}) // the VRF key, used for nothing else
	_, proof, rows := epoch.Plan(secret)
	reveal := evidence.Reveal{Epoch: 7, Proof: proof}
	for _, row := range rows {
		outcome := evidence.Outcome{Verdict: evidence.Pass, Latency: 21_000}
		if row.Provider == 1 {
			outcome = evidence.Outcome{Verdict: evidence.Absent}
		}
		reveal.Outcomes = append(reveal.Outcomes, outcome)
	}
	inspector := identity.AccountID{9}
	commit := evidence.CommitOf(epoch.Network, inspector, &reveal)

	// Everybody, after its reveal.
	report, err := epoch.Verify(inspector, evidence.VRFKeyOf(secret), commit, &reveal)
	if err != nil {
		fmt.Println(err)
		return
	}
	views := make([]evidence.View, roster.Len())
	for i, row := range report.Rows {
		views[row.Provider].Add(&rules, evidence.Fixed, row.Kind, reveal.Outcomes[i], 7)
	}
	for i := range views {
		fmt.Printf("provider %d: %d checks, %d failed\n", i, views[i].Sample(), views[i].Failures())
	}
	// Output:
	// provider 0: 2 checks, 0 failed
	// provider 1: 2 checks, 2 failed
}

// A small sample does not boast.
func ExampleWilsonLower() {
	fmt.Println(evidence.WilsonLower(20, 20, evidence.TwoSided95))
	fmt.Println(evidence.WilsonLower(500, 500, evidence.TwoSided95))
	// Output:
	// 838869
	// 992375
}
