package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"testing"

	"scn.alt/scn/routing/identity"
)

// providersOf returns n providers whose revenue grows.
func providersOf(n int) []Provider {
	list := make([]Provider, n)
	for i := range list {
		list[i] = Provider{Kinds: AllKinds, Revenue: uint64(i) * 1_000_000, Class: Class(i % 2)}
		binary.BigEndian.PutUint32(list[i].Service[:], uint32(i/4))
		binary.BigEndian.PutUint32(list[i].Node[:], uint32(i+1))
	}
	return list
}

func rosterOf(t testing.TB, rules Rules, inspectors, providers int) *Roster {
	t.Helper()
	rules = rules.WithDefaults()
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := NewRoster(rules, inspectors, providersOf(providers))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outputOf stands for a VRF output.
func outputOf(i int) (o VRFOutput) {
	h := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
	copy(o[:], h[:])
	return o
}

func TestPlanOfSmallNetworks(t *testing.T) {
	for _, c := range []struct{ inspectors, providers, rows int }{
		{1, 4, 20}, // one inspector comes five times
		{8, 4, 4},  // eight come once each
		{3, 1, 2},
		{1, 50, 50},
		{1, 0, 0},
		{2, 51, 50}, // too many to visit all: drawn
	} {
		r := rosterOf(t, Rules{}, c.inspectors, c.providers)
		rows := PlanOf(r, outputOf(1))
		if len(rows) != c.rows || r.Rows() != c.rows {
			t.Errorf("%d inspectors, %d providers: %d rows", c.inspectors, c.providers, len(rows))
		}
		seen := make(map[uint32]int)
		for _, row := range rows {
			seen[row.Provider]++
		}
		for p := range uint32(c.providers) {
			if c.providers <= 50 && seen[p] != c.rows/c.providers {
				t.Errorf("%d inspectors, %d providers: provider %d is visited %d times", c.inspectors, c.providers, p, seen[p])
			}
		}
	}
}

func TestPlanKeepsItsBounds(t *testing.T) {
	rules := Rules{}.WithDefaults()
	list := providersOf(300)
	for i := range list {
		list[i].Kinds = KindSet(i) & AllKinds
	}
	r, err := NewRoster(rules, 40, list)
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[Kind]int)
	for i := range 500 {
		rows := PlanOf(r, outputOf(i))
		if !slices.IsSortedFunc(rows, func(a, b Row) int { return int(a.Start) - int(b.Start) }) {
			t.Fatal("rows out of order")
		}
		for _, row := range rows {
			kinds[row.Kind]++
			switch p := r.At(int(row.Provider)); {
			case row.Start%rules.Slot() != 0 || row.Start+rules.Slot() > rules.Epoch:
				t.Fatalf("a window from %d ms on", row.Start)
			case row.Kind != Reach && !p.Kinds.Has(row.Kind):
				t.Fatalf("%s is looked at, %s apply", row.Kind, p.Kinds)
			case !slices.Contains(rules.Sizes[:], row.Size):
				t.Fatalf("%d bytes", row.Size)
			case row.Account >= rules.Accounts:
				t.Fatalf("account %d", row.Account)
			}
		}
	}
	for k := range Kind(Kinds) {
		if kinds[k] == 0 {
			t.Errorf("%s is never looked at", k)
		}
	}
}

// Half of the visits go to all alike, half by the root of the revenue.
func TestPlanFollowsRevenue(t *testing.T) {
	rules := Rules{}.WithDefaults()
	list := providersOf(100)
	for i := range list {
		list[i].Revenue = 0
	}
	list[0].Revenue, list[1].Revenue, list[2].Revenue = 16_000_000, 4_000_000, 1_000_000
	r, err := NewRoster(rules, 40, list)
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]float64, 100)
	const plans = 4000
	for i := range plans {
		for _, row := range PlanOf(r, outputOf(i)) {
			counts[row.Provider]++
		}
	}
	total := float64(plans * r.Rows())
	for i, root := range []float64{4, 2, 1, 0, 0} {
		want := total * (0.5/100 + 0.5*root/7)
		if math.Abs(counts[i]-want) > 6*math.Sqrt(want)+want/50 {
			t.Errorf("provider %d is visited %v times, expected %v", i, counts[i], want)
		}
		if got := float64(r.ExpectedRows(i)) / 1000; math.Abs(got/40*plans-want) > want/50 {
			t.Errorf("provider %d: %v visits an epoch expected", i, got)
		}
	}
}

// Start times are uniform over the epoch: nowhere may a provider rest.
func TestPlanCoversTheEpoch(t *testing.T) {
	r := rosterOf(t, Rules{}, 40, 200)
	var tenths [10]float64
	for i := range 2000 {
		for _, row := range PlanOf(r, outputOf(i)) {
			at := row.Start + DelayOf(RowKey(sha256.Sum256(binary.BigEndian.AppendUint64(nil, row.Leaf))), r.rules.Slot())
			tenths[at*10/r.rules.Epoch]++
		}
	}
	for i, n := range tenths {
		if math.Abs(n-10_000) > 500 {
			t.Errorf("tenth %d of the epoch: %v visits, about 10,000 expected", i, n)
		}
	}
	// Windows that do not fit the epoch a whole number of times fill it all the same.
	rules := Rules{Epoch: 10_007, Window: 999}.WithDefaults()
	if n := rules.slots(); n != 10 || rules.Slot() != 1000 {
		t.Errorf("%d windows of %d ms", n, rules.Slot())
	}
}

func TestPlanLimitsBytes(t *testing.T) {
	rules := Rules{ProbeBytes: 1 << 20}
	r := rosterOf(t, rules, 1000, 60)
	const epochs = 20
	bytes := make([]uint64, 60)
	for i := range epochs * 1000 / 10 {
		for _, row := range PlanOf(r, outputOf(i)) {
			if row.Kind > Latency {
				bytes[row.Provider] += uint64(row.Size) * 10
			}
		}
	}
	for i, b := range bytes {
		if hourly := b / epochs * 6; hourly > rules.ProbeBytes*3/2 {
			t.Errorf("provider %d bears %d bytes an hour", i, hourly)
		}
		if r.ExpectedBytes(i) <= rules.ProbeBytes {
			t.Error("the test limits nothing")
		}
	}
}

func TestRosterRefuses(t *testing.T) {
	rules := Rules{}.WithDefaults()
	list := providersOf(3)
	twice := []Provider{list[0], list[0]}
	unsorted := []Provider{list[1], list[0]}
	for _, bad := range [][]Provider{twice, unsorted} {
		if _, err := NewRoster(rules, 1, bad); !errors.Is(err, ErrRoster) {
			t.Errorf("%v", err)
		}
	}
	if _, err := NewRoster(rules, MaxInspectors+1, list); !errors.Is(err, ErrRoster) {
		t.Errorf("too many inspectors: %v", err)
	}
	a, _ := NewRoster(rules, 1, list)
	b, _ := NewRoster(rules, 2, list)
	c, _ := NewRoster(rules, 1, list[:2])
	if a.ID() == b.ID() || a.ID() == c.ID() || a.ID() != rosterOf(t, Rules{}, 1, 3).ID() {
		t.Error("the ID does not tell rosters apart")
	}
}

func TestRulesValidate(t *testing.T) {
	if err := (Rules{}).WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(r *Rules){
		"epoch":  func(r *Rules) { r.Epoch = 999 },
		"window": func(r *Rules) { r.Window = r.Epoch + 1 },
		"grace":  func(r *Rules) { r.Grace = r.Epoch },
		"rows":   func(r *Rules) { r.Rows = MaxRows + 1 },
		"floor":  func(r *Rules) { r.Floor = million + 1 },
		"cap":    func(r *Rules) { r.Cap = million + 1 },
		"mix":    func(r *Rules) { r.Mix[Reach] = 0 },
		"size":   func(r *Rules) { r.Sizes[0] = 0 },
		"sizes":  func(r *Rules) { r.SizeWeights = [8]uint16{} },
		"alarm":  func(r *Rules) { r.Fixed.Fail = r.Fixed.Alarm + 1 },
		"target": func(r *Rules) { r.Mobile.LatencyTarget = r.Mobile.LatencyMax },
		"prior":  func(r *Rules) { r.Prior = HistorySize + 1 },
	} {
		r := Rules{}.WithDefaults()
		spoil(&r)
		if err := r.Validate(); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeeds(t *testing.T) {
	network := identity.NetworkID{1}
	posts := []SeedPost{{identity.AccountID{1}, VRFOutput{1}}, {identity.AccountID{2}, VRFOutput{2}}}
	seed, err := NextSeed(network, 5, Seed{}, posts)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() (Seed, error){
		"network":  func() (Seed, error) { return NextSeed(identity.NetworkID{2}, 5, Seed{}, posts) },
		"epoch":    func() (Seed, error) { return NextSeed(network, 6, Seed{}, posts) },
		"previous": func() (Seed, error) { return NextSeed(network, 5, Seed{1}, posts) },
		"posts":    func() (Seed, error) { return NextSeed(network, 5, Seed{}, posts[:1]) },
		"nothing":  func() (Seed, error) { return NextSeed(network, 5, Seed{}, nil) },
	} {
		if other, err := f(); err != nil || other == seed {
			t.Errorf("another %s, the same seed (%v)", name, err)
		}
	}
	for _, bad := range [][]SeedPost{{posts[1], posts[0]}, {posts[0], posts[0]}, make([]SeedPost, MaxAuthorities+1)} {
		if _, err := NextSeed(network, 5, Seed{}, bad); !errors.Is(err, ErrPosts) {
			t.Errorf("%d posts: %v", len(bad), err)
		}
	}
}

// A golden epoch, recomputed bit for bit: reveals, and what is judged from them.
func TestGoldenEpoch(t *testing.T) {
	f, accounts, keys, commits, reveals := benchEpoch(t, 30, 100)
	h := sha256.New()
	for i := range reveals {
		h.Write(reveals[i].Append(nil))
		h.Write(commits[i][:])
	}
	_, judged := verifyEpoch(t, f, accounts, keys, commits, reveals)
	if got := hex.EncodeToString(h.Sum(nil)); got != goldenReveals {
		t.Errorf("reveals: %s, want %s", got, goldenReveals)
	}
	if got := hex.EncodeToString(judged[:]); got != goldenJudged {
		t.Errorf("judged: %s, want %s", got, goldenJudged)
	}
}

// The golden plan: whatever changes these bits changes what every ledger says.
func TestGoldenPlan(t *testing.T) {
	network := identity.NetworkID{1}
	seed, err := NextSeed(network, 7, Seed{2}, []SeedPost{{identity.AccountID{3}, VRFOutput{4}}})
	if err != nil {
		t.Fatal(err)
	}
	frame := Frame{Network: network, Epoch: 7, Seed: seed, Roster: rosterOf(t, Rules{}, 40, 200)}
	output, proof, rows := frame.Plan(identity.NewKeyFromSeed([32]byte{5}))
	h := sha256.New()
	for _, r := range rows {
		b := binary.BigEndian.AppendUint32(nil, r.Provider)
		b = append(b, byte(r.Kind))
		b = binary.BigEndian.AppendUint32(b, r.Start)
		b = binary.BigEndian.AppendUint32(b, r.Size)
		b = binary.BigEndian.AppendUint16(b, r.Account)
		b = binary.BigEndian.AppendUint16(b, r.Carrier)
		h.Write(binary.BigEndian.AppendUint64(b, r.Leaf))
	}
	id := frame.Roster.ID()
	for _, c := range []struct{ name, got, want string }{
		{"seed", hex.EncodeToString(seed[:]), goldenSeed},
		{"output", hex.EncodeToString(output[:16]), goldenOutput},
		{"proof", hex.EncodeToString(proof[:16]), goldenProof},
		{"roster", hex.EncodeToString(id[:]), goldenRoster},
		{"plan", hex.EncodeToString(h.Sum(nil)), goldenPlan},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}
