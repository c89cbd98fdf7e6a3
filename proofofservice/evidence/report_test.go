package evidence

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// reported is one inspector's epoch with all that belongs to it, every row passed.
type reported struct {
	frame     Frame
	secret    identity.PrivateKey
	inspector identity.AccountID
	nodes     []identity.PrivateKey
	output    VRFOutput
	rows      []Row
	details   []Detail
	reveal    Reveal
}

const began = 1_000_000 // when the epoch began, in ms

func report(t testing.TB) *reported {
	t.Helper()
	var list []Provider
	var nodes []identity.PrivateKey
	for i := range 3 {
		node := identity.NewKeyFromSeed([32]byte{byte(i), 1})
		nodes = append(nodes, node)
		list = append(list, Provider{Service: identity.ServiceID{byte(i)}, Node: node.Node(), Kinds: AllKinds})
	}
	roster, err := NewRoster(Rules{}.WithDefaults(), 1, list)
	if err != nil {
		t.Fatal(err)
	}
	r := &reported{
		frame:     Frame{Network: identity.NetworkID{9}, Epoch: 7, Seed: Seed{8}, Roster: roster},
		secret:    identity.NewKeyFromSeed([32]byte{2}),
		inspector: identity.AccountID{3},
		nodes:     nodes,
	}
	var proof VRFProof
	r.output, proof, r.rows = r.frame.Plan(r.secret)
	r.reveal = Reveal{Epoch: 7, Proof: proof, Salt: [32]byte{4}}
	for i, row := range r.rows {
		key := RowKey(sha256.Sum256(fmt.Append(nil, i)))
		start := began + uint64(row.Start) + uint64(DelayOf(key, roster.rules.Slot()))
		receipt := voucher.Receipt{
			Service: list[row.Provider].Service, Nonce: NonceOf(r.output, i, key),
			Sequence: 1, Sent: uint64(row.Size), Duration: 100, Final: true,
		}
		receipt.Sign(nodes[row.Provider], r.frame.Network)
		r.details = append(r.details, Detail{Row: uint16(i), Key: key, Start: start, End: start + 100, Receipt: receipt, HasReceipt: true})
		o := Outcome{Verdict: Pass, Latency: 1000, KiB: 16}
		if row.Kind == Throughput {
			o.Rate, o.KiB = 1000, uint16((row.Size+1023)/1024)
		}
		r.reveal.Outcomes = append(r.reveal.Outcomes, o)
	}
	r.reveal.Root = MerkleRoot(Leaves(r.details))
	return r
}

func (r *reported) verify(t *testing.T) *Report {
	t.Helper()
	verified, err := r.frame.Verify(r.inspector, VRFKeyOf(r.secret), CommitOf(r.frame.Network, r.inspector, &r.reveal), &r.reveal)
	if err != nil {
		t.Fatal(err)
	}
	return verified
}

func TestReportVerifies(t *testing.T) {
	r := report(t)
	verified := r.verify(t)
	if !slices.Equal(verified.Rows, r.rows) || verified.Output != r.output {
		t.Error("the verifier sees another plan")
	}
	for i := range r.rows {
		a := AnswerTo(7, r.inspector, r.details, i)
		parsed, err := ParseAnswer(a.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := parsed.Verify(&r.frame, verified, began); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
	if n := len(r.reveal.Append(nil)); n != revealHead+16*len(r.rows) {
		t.Errorf("a reveal of %d rows has %d bytes", len(r.rows), n)
	}
}

func TestReportRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(r *reported) (VRFKey, Commit)
		want  error
	}{
		{"another epoch", func(r *reported) (VRFKey, Commit) { r.reveal.Epoch++; return r.honest() }, ErrUnplanned},
		{"a row missing", func(r *reported) (VRFKey, Commit) {
			r.reveal.Outcomes = r.reveal.Outcomes[1:]
			return r.honest()
		}, ErrUnplanned},
		{"a row too many", func(r *reported) (VRFKey, Commit) {
			r.reveal.Outcomes = append(r.reveal.Outcomes, Outcome{})
			return r.honest()
		}, ErrUnplanned},
		{"changed after the commit", func(r *reported) (VRFKey, Commit) {
			key, commit := r.honest()
			r.reveal.Outcomes[0] = Outcome{Verdict: Absent}
			return key, commit
		}, ErrCommit},
		{"another salt", func(r *reported) (VRFKey, Commit) {
			key, commit := r.honest()
			r.reveal.Salt[0]++
			return key, commit
		}, ErrCommit},
		{"somebody else's commit", func(r *reported) (VRFKey, Commit) {
			key, _ := r.honest()
			return key, CommitOf(r.frame.Network, identity.AccountID{77}, &r.reveal)
		}, ErrCommit},
		{"forged proof", func(r *reported) (VRFKey, Commit) { r.reveal.Proof[40]++; return r.honest() }, ErrVRFProof},
		{"another key", func(r *reported) (VRFKey, Commit) {
			_, commit := r.honest()
			return VRFKeyOf(identity.NewKeyFromSeed([32]byte{99})), commit
		}, ErrVRFProof},
		{"proof of another seed", func(r *reported) (VRFKey, Commit) {
			_, r.reveal.Proof = ProveVRF(r.secret, PlanInput(r.frame.Network, 7, Seed{9}))
			return r.honest()
		}, ErrVRFProof},
		{"impossible value", func(r *reported) (VRFKey, Commit) {
			r.reveal.Outcomes[0].Latency = 0
			return r.honest()
		}, ErrValue},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := report(t)
			key, commit := c.spoil(r)
			if verified, err := r.frame.Verify(r.inspector, key, commit, &r.reveal); !errors.Is(err, c.want) || verified != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// honest returns the key and a commit to the report as it is.
func (r *reported) honest() (VRFKey, Commit) {
	return VRFKeyOf(r.secret), CommitOf(r.frame.Network, r.inspector, &r.reveal)
}

func TestAnswersRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(r *reported, i int)
		after func(a *Answer)
		want  error
	}{
		{"no receipt", func(r *reported, i int) { r.details[i].HasReceipt = false }, nil, ErrReceipt},
		{"another provider's", func(r *reported, i int) {
			r.details[i].Receipt.Sign(r.nodes[(r.rows[i].Provider+1)%3], r.frame.Network)
		}, nil, ErrReceipt},
		{"signed by nobody", func(r *reported, i int) { r.details[i].Receipt.Signature[5]++ }, nil, ErrReceipt},
		{"of another network", func(r *reported, i int) {
			r.details[i].Receipt.Sign(r.nodes[r.rows[i].Provider], identity.NetworkID{1})
		}, nil, ErrReceipt},
		{"used for another row before", func(r *reported, i int) {
			r.details[i].Receipt.Nonce = NonceOf(r.output, i+1, r.details[i].Key)
			r.details[i].Receipt.Sign(r.nodes[r.rows[i].Provider], r.frame.Network)
		}, nil, ErrReceipt},
		{"before its window", func(r *reported, i int) { r.details[i].Start = began + uint64(r.rows[i].Start) - 1 }, nil, ErrDetail},
		{"after its window", func(r *reported, i int) { r.details[i].Start += 37_501; r.details[i].End += 60_000 }, nil, ErrDetail},
		{"ends before it begins", func(r *reported, i int) { r.details[i].End = r.details[i].Start - 1 }, nil, ErrDetail},
		{"ends after the grace", func(r *reported, i int) { r.details[i].End = began + 700_000 }, nil, ErrDetail},
		{"another's answer", nil, func(a *Answer) { a.Inspector[0]++ }, ErrDetail},
		{"of another epoch", nil, func(a *Answer) { a.Epoch++ }, ErrDetail},
		{"changed after the reveal", nil, func(a *Answer) { a.Detail.End++ }, ErrDetail},
		{"at another row", nil, func(a *Answer) { a.Detail.Row++ }, ErrDetail},
		{"at no row", nil, func(a *Answer) { a.Detail.Row = MaxRows }, ErrDetail},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := report(t)
			i := slices.IndexFunc(r.rows, func(row Row) bool { return row.Start > 100_000 && row.Start < 500_000 })
			if c.spoil != nil {
				c.spoil(r, i)
				r.reveal.Root = MerkleRoot(Leaves(r.details))
			}
			a := AnswerTo(7, r.inspector, r.details, i)
			if c.after != nil {
				c.after(&a)
			}
			if err := a.Verify(&r.frame, r.verify(t), began); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// What claims nothing needs to show nothing.
func TestFailuresNeedNoReceipt(t *testing.T) {
	r := report(t)
	for i := range r.rows {
		r.details[i].HasReceipt, r.details[i].Receipt = false, voucher.Receipt{}
		r.reveal.Outcomes[i] = Outcome{Verdict: Absent}
		if i%2 == 1 {
			r.reveal.Outcomes[i] = Outcome{Verdict: Void, Reason: Uplink}
			r.details[i].Start, r.details[i].End = 0, 0
		}
	}
	r.reveal.Root = MerkleRoot(Leaves(r.details))
	verified := r.verify(t)
	for i := range r.rows {
		a := AnswerTo(7, r.inspector, r.details, i)
		if err := a.Verify(&r.frame, verified, began); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}

func TestOutcomesThatCannotBe(t *testing.T) {
	row := func(k Kind) Row { return Row{Kind: k, Size: 64 << 10} }
	for _, c := range []struct {
		name string
		kind Kind
		o    Outcome
		ok   bool
	}{
		{"omitted", Reach, Outcome{}, true},
		{"void", Reach, Outcome{Verdict: Void, Reason: Clock}, true},
		{"pass", Reach, Outcome{Verdict: Pass, Latency: 1}, true},
		{"burst", Throughput, Outcome{Verdict: Pass, Latency: 1, KiB: 64, Rate: 1}, true},
		{"gap", Mobility, Outcome{Verdict: Pass, Latency: 1, Gap: 300}, true},
		{"wrong", Correctness, Outcome{Verdict: Wrong, Latency: 1, KiB: 4}, true},
		{"overcharged", Price, Outcome{Verdict: Overcharged, Latency: 1}, true},
		{"absent", Throughput, Outcome{Verdict: Absent}, true},
		{"broken", Throughput, Outcome{Verdict: Broken, Latency: 1, KiB: 3}, true},
		{"void without reason", Reach, Outcome{Verdict: Void}, false},
		{"reason without void", Reach, Outcome{Verdict: Pass, Latency: 1, Reason: Clock}, false},
		{"measured while void", Reach, Outcome{Verdict: Void, Reason: Clock, Latency: 1}, false},
		{"measured while absent", Reach, Outcome{Verdict: Absent, KiB: 1}, false},
		{"measured while omitted", Reach, Outcome{KiB: 1}, false},
		{"in no time", Reach, Outcome{Verdict: Pass}, false},
		{"in no time, wrong", Correctness, Outcome{Verdict: Wrong}, false},
		{"too slow", Reach, Outcome{Verdict: Pass, Latency: maxLatency + 1}, false},
		{"too much", Reach, Outcome{Verdict: Pass, Latency: 1, KiB: 65}, false},
		{"more than planned", Throughput, Outcome{Verdict: Pass, Latency: 1, KiB: 1000, Rate: 1}, false},
		{"less than planned", Throughput, Outcome{Verdict: Pass, Latency: 1, KiB: 63, Rate: 1}, false},
		{"no rate", Throughput, Outcome{Verdict: Pass, Latency: 1, KiB: 64}, false},
		{"too fast", Throughput, Outcome{Verdict: Pass, Latency: 1, KiB: 64, Rate: maxRate + 1}, false},
		{"rate of another kind", Reach, Outcome{Verdict: Pass, Latency: 1, Rate: 1}, false},
		{"gap of another kind", Reach, Outcome{Verdict: Pass, Latency: 1, Gap: 1}, false},
		{"gap above an epoch", Mobility, Outcome{Verdict: Pass, Latency: 1, Gap: 600_001}, false},
		{"wrong without a question", Reach, Outcome{Verdict: Wrong, Latency: 1}, false},
		{"overcharged unpaid", Correctness, Outcome{Verdict: Overcharged, Latency: 1}, false},
		{"no such verdict", Reach, Outcome{Verdict: verdicts}, false},
		{"no such reason", Reach, Outcome{Verdict: Void, Reason: reasons}, false},
	} {
		if err := c.o.Check(row(c.kind), 600_000); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestChallengesFallDue(t *testing.T) {
	rules := Rules{}.WithDefaults()
	c := Challenge{Epoch: 10}
	for now, want := range map[uint64]bool{9: false, 10: false, 11: true, 12: true, 13: true, 14: false} {
		if until, ok := c.Due(&rules, now); ok != want || ok && until != now+2 {
			t.Errorf("in epoch %d: %v until %d", now, ok, until)
		}
	}
	var total int
	for i := range 200 {
		rows := Drawn(Seed{byte(i)}, identity.AccountID{1}, 5, 50, 20_000)
		if !slices.IsSorted(rows) {
			t.Fatal("rows out of order")
		}
		total += len(rows)
	}
	if total < 120 || total > 290 { // 200 expected
		t.Errorf("%d of 10,000 rows are drawn", total)
	}
	if !slices.Equal(Drawn(Seed{1}, identity.AccountID{1}, 5, 50, 500_000), Drawn(Seed{1}, identity.AccountID{1}, 5, 50, 500_000)) ||
		slices.Equal(Drawn(Seed{1}, identity.AccountID{1}, 5, 50, 500_000), Drawn(Seed{1}, identity.AccountID{2}, 5, 50, 500_000)) {
		t.Error("drawn by something else than seed and inspector")
	}
}
