package cashier

import (
	"crypto/sha256"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// The seed of an epoch comes from what the ledger's authority posts: the output of a
// verifiable random function, whose key it named before it knew what over. It can post
// nothing else, only withhold it; then the epoch has no plans, which everybody sees, and
// it has not chosen which plans there are. With one authority that is the trust: it
// knows the seed first, and can stop inspection, as it can stop the ledger.

// AdmitAuthority names the key an authority posts under. The account that does is
// Parameters.SeedAuthority, or, where that is not set, the first whose transaction gets
// into a block: a ledger takes it from nobody but itself.
type AdmitAuthority struct {
	ID  voucher.TransferID `cbor:"1,keyasint"`
	Key evidence.VRFKey    `cbor:"2,keyasint"`
}

// PostSeed posts the authority's output for the seed of an epoch.
type PostSeed struct {
	ID    voucher.TransferID `cbor:"1,keyasint"`
	Epoch uint64             `cbor:"2,keyasint"`
	Proof evidence.VRFProof  `cbor:"3,keyasint"`
}

// Kind implements Operation.
func (AdmitAuthority) Kind() Kind { return KindAdmitAuthority }

// Kind implements Operation.
func (PostSeed) Kind() Kind { return KindPostSeed }

func (o AdmitAuthority) transferID() voucher.TransferID { return o.ID }
func (o PostSeed) transferID() voucher.TransferID       { return o.ID }

func (o AdmitAuthority) check(tx *Transaction) *Rejection {
	if r := checkIdentified(tx, o.ID); r != nil {
		return r
	}
	if err := o.Key.Validate(); err != nil {
		return refuseEvidence(err)
	}
	return nil
}

func (o PostSeed) check(tx *Transaction) *Rejection { return checkIdentified(tx, o.ID) }

// mayPost reports whether an account may become the authority.
func (p Parameters) mayPost(s *inspectionRow, a identity.AccountID) bool {
	if p.SeedAuthority.IsZero() {
		return s.Authority.IsZero() || s.Authority == a
	}
	return p.SeedAuthority == a
}

func (o AdmitAuthority) apply(x *execution, tx *Transaction) *Rejection {
	s := &x.inspection
	switch {
	case !x.inspecting:
		return &Rejection{Code: InspectionOff}
	case !x.parameters.mayPost(s, tx.Account):
		return &Rejection{Code: NotAuthority, Account: tx.Account}
	case s.Authority == tx.Account && s.Key == o.Key:
		return nil
	}
	s.Authority, s.Key, s.Since = tx.Account, o.Key, s.Epoch
	return nil
}

func (o PostSeed) apply(x *execution, tx *Transaction) *Rejection {
	s := &x.inspection
	switch {
	case !x.inspecting:
		return &Rejection{Code: InspectionOff}
	case s.Authority != tx.Account:
		return &Rejection{Code: NotAuthority, Account: tx.Account}
	case o.Epoch != s.Epoch+evidence.SeedLead:
		return reject(WrongEpoch, "outputs for the seed of epoch %d are posted now", s.Epoch+evidence.SeedLead)
	case s.Epoch <= s.Since:
		return reject(WrongEpoch, "the key was named in this epoch")
	}
	var before, f frameRow
	load(x, frameKey(o.Epoch-1), &before)
	load(x, frameKey(o.Epoch), &f)
	if f.Posted != nil || x.err != nil {
		return nil // there is one output of a key
	}
	output, err := s.Key.Verify(evidence.SeedInput(x.network, o.Epoch, before.Seed), o.Proof)
	if err != nil {
		return refuseEvidence(err)
	}
	f.Posted = output[:]
	x.write(frameKey(o.Epoch), f)
	return nil
}

// seedKey is the secret key the ledger posts under: it follows from the authority's, and
// so needs no file.
func (l *Ledger) seedKey() identity.PrivateKey {
	signature := l.key.Sign(domain, "seed key", l.cfg.Network[:])
	return identity.NewKeyFromSeed(sha256.Sum256(signature[:]))
}

// seedDuty returns what the ledger has to post, nil if nothing. It is called between
// blocks.
func (l *Ledger) seedDuty() (*submission, error) {
	s := rows{l.store.db}
	row, ok, err := readInspection(s)
	if err != nil || !ok {
		return nil, err
	}
	l.unfinished = row.Judging != 0
	own := l.key.Account()
	if l.seedSecret.IsZero() {
		l.seedSecret = l.seedKey()
	}
	secret := l.seedSecret
	var op Operation
	switch {
	case row.Authority != own || row.Key != evidence.VRFKeyOf(secret):
		var p Parameters
		if _, err := read(s, parametersKey, &p); err != nil || !p.mayPost(&row, own) {
			return nil, err
		}
		op = AdmitAuthority{dutyID("admit", row.Epoch), evidence.VRFKeyOf(secret)}
	case row.Epoch > row.Since:
		epoch := row.Epoch + evidence.SeedLead
		var before, f frameRow
		if _, err := read(s, frameKey(epoch-1), &before); err != nil {
			return nil, err
		}
		if _, err := read(s, frameKey(epoch), &f); err != nil || f.Posted != nil {
			return nil, err
		}
		_, proof := evidence.ProveVRF(secret, evidence.SeedInput(l.cfg.Network, epoch, before.Seed))
		op = PostSeed{dutyID("seed", epoch), epoch, proof}
	default:
		return nil, nil
	}
	if l.duty == op.(identified).transferID() && l.dutyAt == l.head.Load().Height {
		return nil, nil // it was tried, and nothing has changed since
	}
	l.duty, l.dutyAt = op.(identified).transferID(), l.head.Load().Height
	until := max(l.head.Load().Time, l.time.now(l.head.Load().Time).Unix()) + int64(paymentValidity.Seconds())
	signed, err := Transaction{Network: l.cfg.Network, ValidUntil: until, Operation: op}.Sign(l.key)
	if err != nil {
		return nil, err
	}
	tx, err := OpenTransaction(l.cfg.Network, signed)
	return &submission{tx: tx, reply: make(chan answer, 1)}, err
}

func dutyID(what string, epoch uint64) voucher.TransferID {
	h := sha256.Sum256(fmt.Appendf(nil, "scn/ledger/v1 duty %s %d", what, epoch))
	return voucher.TransferID(h[:])
}

// ownDuty refuses what a ledger takes from nobody but itself.
func (l *Ledger) ownDuty(tx *Transaction) error {
	switch tx.Operation.(type) {
	case AdmitAuthority, PostSeed:
		if tx.Account != l.key.Account() {
			return &Rejection{Code: NotAuthority, Account: tx.Account}
		}
	}
	return nil
}
