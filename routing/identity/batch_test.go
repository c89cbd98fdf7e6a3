package identity

import (
	"fmt"
	"os"
	"strings"
	"testing"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// The vectors on which verifiers of Ed25519 disagree get one verdict here, alone
// and in a batch, whatever stands beside them.
func TestDisagreementVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/speccheck.txt")
	if err != nil {
		t.Fatal(err)
	}
	var mixed voi.BatchVerifier
	var want []bool
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		message, key, signature := unhex(t, fields[1]), unhex(t, fields[2]), unhex(t, fields[3])
		accept := fields[0] == "accept"
		if got := voi.VerifyWithOptions(key, message, signature, zip215); got != accept {
			t.Errorf("case %d alone: %v, want %v", len(want), got, accept)
		}
		var alone voi.BatchVerifier
		alone.AddWithOptions(key, message, signature, zip215)
		if got := alone.VerifyBatchOnly(nil); got != accept {
			t.Errorf("case %d in a batch of one: %v, want %v", len(want), got, accept)
		}
		mixed.AddWithOptions(key, message, signature, zip215)
		want = append(want, accept)
	}
	if len(want) != 12 {
		t.Fatalf("%d cases", len(want))
	}
	if all, each := mixed.Verify(nil); all || fmt.Sprint(each) != fmt.Sprint(want) {
		t.Errorf("in one batch: %v, want %v", each, want)
	}
}

// Small-order keys and nonces through Batch itself, good signatures among them.
func TestBatchAgreesWithVerify(t *testing.T) {
	type signed struct {
		signer    [Size]byte
		payload   []byte
		signature [SignatureSize]byte
	}
	var all []signed
	for i, a := range smallOrder {
		for j, r := range smallOrder {
			var s signed
			copy(s.signer[:], unhex(t, a))
			copy(s.signature[:], unhex(t, r))
			s.payload = fmt.Appendf(nil, "%d %d", i, j)
			all = append(all, s)
		}
		k := testKey(byte(i))
		good := signed{k.Public(), []byte("good"), k.Sign(testDomain, "type", []byte("good"))}
		all = append(all, good)
	}
	check := func(list []signed) {
		t.Helper()
		var b Batch
		allGood := true
		for _, s := range list {
			b.Add(s.signer, testDomain, "type", s.payload, s.signature)
			allGood = allGood && Verify(s.signer, testDomain, "type", s.payload, s.signature)
		}
		got, each := b.Verify()
		if got != allGood || b.Len() != len(list) {
			t.Errorf("the batch says %v, the checks one by one %v", got, allGood)
		}
		for i, s := range list {
			if one := Verify(s.signer, testDomain, "type", s.payload, s.signature); !got && each[i] != one {
				t.Errorf("signature %d: %v in the batch, %v alone", i, each[i], one)
			}
		}
	}
	check(all)
	bad := append([]signed(nil), all...)
	for _, i := range []int{0, 14, 50, len(bad) - 1} {
		bad[i].signature[40] ^= 1
		bad[i].signature[0] ^= 1
		check(bad)
	}
	if ok, _ := new(Batch).Verify(); !ok {
		t.Error("an empty batch is bad")
	}
}

func BenchmarkBatch(b *testing.B) {
	k := testKey(1)
	payload := make([]byte, 150)
	signature := k.Sign(testDomain, "type", payload)
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if n == 1 {
					Verify(k.Public(), testDomain, "type", payload, signature)
					continue
				}
				var batch Batch
				for range n {
					batch.Add(k.Public(), testDomain, "type", payload, signature)
				}
				if all, _ := batch.Verify(); !all {
					b.Fatal("refused")
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "signatures/s")
		})
	}
}
