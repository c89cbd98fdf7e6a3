package node

import (
	"errors"
	"testing"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/market"
	"scn.alt/scn/cashier/meter"
	"scn.alt/scn/cashier/purse"
	"scn.alt/scn/cashier/spending"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/sal"
)

// payingNode is a node as far as it chooses and pays.
func payingNode(t *testing.T, limits spending.Limits, policy market.Policy) *Node {
	t.Helper()
	n := &Node{}
	var err error
	key := identity.NewKeyFromSeed([32]byte{1})
	n.pay.purse, err = purse.Open(lateBooks{n}, purse.Config{
		Network: key.Network(), Key: key, File: t.TempDir() + "/purse", Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.pay.policy.Store(uint32(policy))
	return n
}

// TestArrange: what is asked ranks by the policy, what the settings forbid is refused
// with its reason, and who asks nothing is always wanted.
func TestArrange(t *testing.T) {
	cheap, dear, free := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}
	asks := []voucher.Ask{
		{Node: cheap, Price: voucher.Price{PerGiB: voucher.Credit}},
		{Node: dear, Price: voucher.Price{PerGiB: 2 * voucher.Credit}},
	}
	all := spending.Limits{
		MaxPerGiB: spending.Unlimited, MaxPerHour: spending.Unlimited, PerService: spending.Unlimited, PerDay: spending.Unlimited, Deposit: voucher.Credit,
	}
	careful := all
	careful.MaxPerGiB = voucher.Credit
	poor := all
	poor.PerDay = 0
	for name, c := range map[string]struct {
		limits  spending.Limits
		policy  market.Policy
		first   identity.NodeID
		refused map[identity.NodeID]error
	}{
		"cheapest":   {all, market.Cheapest, free, nil},
		"fastest":    {all, market.Fastest, dear, nil},
		"careful":    {careful, market.Fastest, cheap, map[identity.NodeID]error{dear: meter.ErrPrice}},
		"no budget":  {poor, market.Fastest, free, map[identity.NodeID]error{dear: meter.ErrBudget, cheap: meter.ErrBudget}},
		"by weights": {careful, market.Weighted, free, map[identity.NodeID]error{dear: meter.ErrPrice}},
	} {
		t.Run(name, func(t *testing.T) {
			choices := []sal.Choice{
				{Node: dear, Weight: 100, RTT: time.Millisecond},
				{Node: cheap, Weight: 100, RTT: 2 * time.Millisecond},
				{Node: free, Weight: 100, RTT: 3 * time.Millisecond},
			}
			n := payingNode(t, c.limits, c.policy)
			n.arrange(asks, nil, choices)
			best := -1
			for i, choice := range choices {
				if want := c.refused[choice.Node]; !errors.Is(choice.Refused, want) {
					t.Errorf("%v: refused by %v, want %v", choice.Node[0], choice.Refused, want)
				}
				if choice.Refused == nil && (best < 0 || choice.Rank < choices[best].Rank ||
					choice.Rank == choices[best].Rank && choice.Weight > choices[best].Weight) {
					best = i
				}
			}
			if choices[best].Node != c.first {
				t.Errorf("first is %d, want %d: %+v", choices[best].Node[0], c.first[0], choices)
			}
			if len(n.pay.purse.Refusals(time.Time{})) != 0 {
				t.Error("a comparison is remembered as a refusal")
			}
		})
	}
}

func TestGrantTokens(t *testing.T) {
	service := identity.NewKeyFromSeed([32]byte{2})
	g := voucher.Grant{Node: identity.NodeID{1}, Account: identity.AccountID{2}, NotAfter: 5}
	g.Sign(service, identity.NetworkID{3})
	got, err := ParseGrant(FormatGrant(g))
	if err != nil || got != g || !got.Verify(identity.NetworkID{3}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "x", FormatGrant(g) + "A", FormatGrant(g)[1:]} {
		if _, err := ParseGrant(bad); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseGrant(f *testing.F) {
	f.Add(FormatGrant(voucher.Grant{NotAfter: 7}))
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGrant(text)
		if err != nil {
			return
		}
		again, err := ParseGrant(FormatGrant(g))
		if err != nil || again != g {
			t.Errorf("%q is read as %+v, and that as %+v, %v", text, g, again, err)
		}
	})
}

// TestArrangeScores: what inspectors found decides under its policies, also where
// nobody asks money, and who is suspended comes last under any.
func TestArrangeScores(t *testing.T) {
	good, poor, suspended, unknown := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}, identity.NodeID{4}
	scores := map[identity.NodeID]cashier.ProviderScore{
		good:      {Standing: evidence.Standing{Score: 970_000}},
		poor:      {Standing: evidence.Standing{Score: 300_000}},
		suspended: {Standing: evidence.Standing{Score: 999_999}, Suspended: true},
	}
	for _, policy := range []market.Policy{market.Score, market.ScorePerPrice, market.Weighted} {
		choices := []sal.Choice{{Node: suspended, Weight: 1}, {Node: poor, Weight: 1}, {Node: unknown, Weight: 1}, {Node: good, Weight: 1}}
		n := payingNode(t, spending.Limits{}, policy)
		n.arrange(nil, scores, choices)
		rank := map[identity.NodeID]uint64{}
		for _, c := range choices {
			rank[c.Node] = c.Rank
		}
		if rank[suspended] <= max(rank[good], rank[poor], rank[unknown]) {
			t.Errorf("%s: a suspended provider does not come last: %v", policy, rank)
		}
		if policy != market.Weighted && (rank[good] >= rank[unknown] || rank[unknown] >= rank[poor]) {
			t.Errorf("%s: ranks %v", policy, rank)
		}
	}
	choices := []sal.Choice{{Node: good, Weight: 1}, {Node: poor, Weight: 1}}
	n := payingNode(t, spending.Limits{}, market.Score)
	if n.arrange(nil, n.knownScores(identity.ServiceID{1}), choices); choices[0].Rank != choices[1].Rank {
		t.Errorf("nothing is known, and the ranks are %+v", choices)
	}
}
