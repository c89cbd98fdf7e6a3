package cashier

import (
	"errors"
	"fmt"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// inspected is a network whose providers are inspected, block by block, with a clock of
// its own.
type inspected struct {
	t          testing.TB
	state      memory
	head       Header
	blocks     []Block
	genesis    Genesis
	inspectors []inspectorKeys
	providers  []evidence.Provider
	// dead says of provider number i whether it is, lies of inspector number i whether
	// it says the opposite of what it saw.
	dead, lies map[int]bool
	reports    map[uint64]map[int]*evidence.Reveal
	silent     bool // inspectors do nothing
	ids        uint64
}

type inspectorKeys struct {
	account, vrf identity.PrivateKey
	details      map[uint64][]evidence.Detail
}

const inspectedEpoch = 100 // seconds

// inspectedNetwork begins with inspectors of as many operators, and as many providers.
func inspectedNetwork(t testing.TB, inspectors, providers int, change ...func(*Parameters)) *inspected {
	t.Helper()
	p := DefaultParameters()
	p.EpochSeconds, p.InspectorStake, p.PlanRows = inspectedEpoch, voucher.Credit, 8
	p.VestingShare, p.VestingEpochs, p.InspectionFee = 400_000, 1, 100_000
	p.Treasury = key(90).Account()
	for _, f := range change {
		f(&p)
	}
	n := &inspected{t: t, dead: map[int]bool{}, lies: map[int]bool{}, reports: map[uint64]map[int]*evidence.Reveal{}}
	balances := []GenesisBalance{{alice.Account(), 1000 * voucher.Credit}}
	for i := range inspectors {
		account := key(uint16(1000 + i))
		n.inspectors = append(n.inspectors, inspectorKeys{account, key(uint16(3000 + i)), map[uint64][]evidence.Detail{}})
		balances = append(balances, GenesisBalance{account.Account(), 10 * voucher.Credit})
	}
	n.genesis = NewGenesis(p, balances...)
	n.state, _ = begun(t, p, n.genesis.Balances...)
	n.head = Header{Time: epoch.Unix() / inspectedEpoch * inspectedEpoch}
	for i := range n.inspectors {
		n.accept(payment(t, n.inspectors[i].account, n.until(), Stake{n.id(), voucher.Credit}))
		n.accept(n.admission(i))
	}
	for i := range providers {
		node := key(uint16(5000 + i))
		provider := key(uint16(6000 + i))
		sequence := uint64(1)
		n.accept(sealed(t, provider, sequence, Bind{
			Node: node.Node(), Service: files.Service(),
			NodeProof:    BindProof(node, network, provider.Account(), sequence, node.Node(), files.Service()),
			ServiceProof: BindProof(files, network, provider.Account(), sequence, node.Node(), files.Service()),
		}))
		p := evidence.Provider{Service: files.Service(), Node: node.Node(), Kinds: evidence.KindsOf(evidence.Reach, evidence.Latency)}
		n.accept(payment(t, provider, n.until(), ListProvider{n.id(), p.Append(nil), false}))
		n.providers = append(n.providers, p)
	}
	n.accept(payment(t, authority, n.until(), AdmitAuthority{n.id(), evidence.VRFKeyOf(key(80))}))
	return n
}

func (n *inspected) admission(i int) []byte {
	k := &n.inspectors[i]
	a := evidence.Admission{
		Account: k.account.Account(), Key: evidence.VRFKeyOf(k.vrf),
		Operator: evidence.Label(fmt.Sprintf("operator-%d", i)), Network: evidence.Label(fmt.Sprintf("as%d", i)),
	}
	return payment(n.t, k.account, n.until(), AdmitInspector{n.id(), a.Append(nil)})
}

func (n *inspected) id() voucher.TransferID { n.ids++; return transferNumber(n.ids) }
func (n *inspected) until() int64           { return n.head.Time + 600 }

// block makes a block of what is signed, and returns what became of it.
func (n *inspected) block(signed ...[]byte) []Result {
	n.t.Helper()
	txs := make([]Transaction, len(signed))
	for i, b := range signed {
		txs[i] = must[Transaction](n.t)(OpenTransaction(network, b))
	}
	n.head.Network, n.head.Version, n.head.Height = network, RulesVersion, n.head.Height+1
	out := must[Outcome](n.t)(Apply(n.state, n.head, txs))
	block := Block{Header: n.head}
	for i, r := range out.Results {
		if r.Rejection == nil && !r.Again {
			block.Transactions = append(block.Transactions, signed[i])
		}
	}
	n.blocks = append(n.blocks, block)
	_ = n.state.put(out.Changes)
	return out.Results
}

// accept makes a block of one transaction that must be accepted.
func (n *inspected) accept(signed []byte) {
	n.t.Helper()
	if r := n.block(signed)[0]; r.Rejection != nil {
		n.t.Fatalf("block %d: %v", n.head.Height, r.Rejection)
	}
}

// refuse makes a block of one transaction that must be refused, without a trace.
func (n *inspected) refuse(signed []byte, want error) {
	n.t.Helper()
	n.block() // whatever is due
	before := appendState(n.state)
	r := n.block(signed)[0]
	if !errors.Is(r.Rejection.orNil(), want) {
		n.t.Fatalf("block %d: got %v, want %v", n.head.Height, r.Rejection, want)
	}
	if appendState(n.state) != before {
		n.t.Fatalf("block %d: what was refused left a trace", n.head.Height)
	}
}

func appendState(m memory) string {
	changes := make([]Change, 0, len(m))
	for k, v := range m {
		if k != string(marketKey) { // it has the time of the newest block
			changes = append(changes, Change{[]byte(k), v})
		}
	}
	o := newOverlay(memory{}, len(changes))
	for _, c := range changes {
		o.set(c.Key, c.Value)
	}
	h := chainChanges(allRows, Hash{}, 0, o.sorted())
	return h.String()
}

func (n *inspected) row() inspectionRow {
	n.t.Helper()
	row, ok, err := readInspection(n.state)
	if err != nil || !ok {
		n.t.Fatal(ok, err)
	}
	return row
}

func (n *inspected) frameAt(e uint64) (*evidence.Frame, frameRow, bool) {
	n.t.Helper()
	var f frameRow
	if ok, err := read(n.state, frameKey(e), &f); err != nil || !ok || !f.planned() {
		return nil, f, false
	}
	return &evidence.Frame{Network: network, Epoch: e, Seed: f.Seed, Roster: must[*evidence.Roster](n.t)(readRoster(n.state, e, &f))}, f, true
}

// make is what inspector i saw in an epoch.
func (n *inspected) report(frame *evidence.Frame, i int) *evidence.Reveal {
	k := &n.inspectors[i]
	_, proof, rows := frame.Plan(k.vrf)
	r := &evidence.Reveal{Epoch: frame.Epoch, Proof: proof, Salt: [32]byte{byte(i), 1}}
	details := make([]evidence.Detail, len(rows))
	for j, row := range rows {
		dead := n.dead[n.number(frame.Roster.At(int(row.Provider)))]
		o := evidence.Outcome{Verdict: evidence.Pass, Latency: 20_000, KiB: 1}
		if dead != n.lies[i] {
			o = evidence.Outcome{Verdict: evidence.Absent}
		}
		r.Outcomes = append(r.Outcomes, o)
		details[j] = evidence.Detail{Row: uint16(j), Key: evidence.RowKey{byte(i), byte(j)}}
	}
	r.Root = evidence.MerkleRoot(evidence.Leaves(details))
	k.details[frame.Epoch] = details
	return r
}

func (n *inspected) number(p evidence.Provider) int {
	for i := range n.providers {
		if n.providers[i].Compare(p) == 0 {
			return i
		}
	}
	n.t.Fatal("a provider nobody listed")
	return 0
}

// epoch lets an epoch pass in which everybody does his work: the authority posts,
// inspectors reveal what they committed to in the one before, and commit.
func (n *inspected) epoch() {
	n.t.Helper()
	n.head.Time = n.row().Start + 20
	n.block()
	n.post()
	e := n.row().Epoch
	for i := range n.inspectors {
		if r := n.reports[e-1][i]; r != nil && !n.silent {
			n.accept(payment(n.t, n.inspectors[i].account, n.until(), RevealReport{n.id(), r.Append(nil)}))
		}
	}
	if frame, _, ok := n.frameAt(e); ok && !n.silent {
		n.reports[e] = map[int]*evidence.Reveal{}
		for i := range n.inspectors {
			r := n.report(frame, i)
			n.reports[e][i] = r
			a := n.inspectors[i].account
			n.accept(payment(n.t, a, n.until(), CommitReport{n.id(), e, evidence.CommitOf(network, a.Account(), r)}))
		}
	}
	n.next()
}

// post posts for the seed, as the ledger does by itself.
func (n *inspected) post() {
	n.t.Helper()
	s := n.row()
	if s.Epoch <= s.Since {
		return
	}
	var before frameRow
	_, _ = read(n.state, frameKey(s.Epoch+1), &before)
	_, proof := evidence.ProveVRF(key(80), evidence.SeedInput(network, s.Epoch+2, before.Seed))
	n.accept(payment(n.t, authority, n.until(), PostSeed{n.id(), s.Epoch + 2, proof}))
}

// next makes the first block of the next epoch.
func (n *inspected) next() {
	n.t.Helper()
	s := n.row()
	n.head.Time = s.Start + s.Length
	n.block()
}

func (n *inspected) standing(i int) evidence.Standing {
	n.t.Helper()
	var row listingRow
	if ok, err := read(n.state, listingKey(n.providers[i].Service, n.providers[i].Node), &row); err != nil || !ok {
		n.t.Fatal(ok, err)
	}
	_, s, err := row.open()
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (n *inspected) conductOf(i int) evidence.Conduct {
	n.t.Helper()
	var row inspectorRow
	if ok, err := read(n.state, inspectorKey(n.inspectors[i].account.Account()), &row); err != nil || !ok {
		n.t.Fatal(ok, err)
	}
	return must[evidence.Conduct](n.t)(evidence.ParseConduct(row.Conduct))
}

// A provider that is dead is suspended, for longer and longer; honest ones never are,
// whatever a minority of the operators says.
func TestInspection(t *testing.T) {
	n := inspectedNetwork(t, 7, 3)
	n.dead[1] = true
	n.lies[0] = true // one of seven slanders all, and praises the dead one
	begun := n.row().Epoch
	suspended := 0
	for range 24 {
		n.epoch()
		now := n.row().Epoch
		for i := range n.providers {
			switch s := n.standing(i); {
			case i != 1 && s.Suspended(now):
				t.Fatalf("epoch %d: honest provider %d is suspended: %+v", now, i, s)
			case i == 1 && s.Suspended(now):
				suspended++
			}
		}
	}
	good, bad := n.standing(0), n.standing(1)
	if bad.Level < 2 || suspended < 5 || bad.Score > 100_000 || good.Score < 700_000 {
		t.Errorf("%d epochs suspended; dead %+v, honest %+v", suspended, bad, good)
	}
	if first := good.Since; first < begun+evidence.RosterLead {
		t.Errorf("judged since epoch %d, inspected since %d", first, begun+evidence.RosterLead)
	}
	if c := n.conductOf(1); c.Planned == 0 || c.Done != c.Planned {
		t.Errorf("an honest inspector's conduct %+v", c)
	}
}
