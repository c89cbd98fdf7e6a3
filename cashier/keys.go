package cashier

import (
	"encoding/binary"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// An account keeps its ID for ever; the key that signs for it may change:
//
//	          RotateKey, by the key that signs now
//	 own key ─────────────────────────────────────► another key
//	                                                    ▲
//	 SetRecovery names an account ──► Recover by it ────┤ after the recovery delay
//	                                        └───────────┴──► CancelRecovery by the key
//
// An account's money row is marked when its key is not its own any more, and only
// then is the row of its keys looked up: accounts that never changed their key, which
// are nearly all, cost nothing more.

// RotateKey makes another key sign for the signer's account from now on. The new key
// proves that somebody has it; see KeyProof.
type RotateKey struct {
	Key   identity.AccountID `cbor:"1,keyasint"`
	Proof Signature          `cbor:"2,keyasint"`
}

// SetRecovery names the account that may recover the signer's, the zero account none.
type SetRecovery struct {
	Recovery identity.AccountID `cbor:"1,keyasint,omitzero"`
}

// Recover makes another key sign for an account whose recovery account is the
// signer's, when the recovery delay has passed and its key did not object.
type Recover struct {
	Account identity.AccountID `cbor:"1,keyasint"`
	Key     identity.AccountID `cbor:"2,keyasint"`
	Proof   Signature          `cbor:"3,keyasint"`
}

// CancelRecovery stops the recovery of the signer's account.
type CancelRecovery struct{}

// Kind implements Operation.
func (RotateKey) Kind() Kind { return KindRotateKey }

// Kind implements Operation.
func (SetRecovery) Kind() Kind { return KindSetRecovery }

// Kind implements Operation.
func (Recover) Kind() Kind { return KindRecover }

// Kind implements Operation.
func (CancelRecovery) Kind() Kind { return KindCancelRecovery }

// keyProof is what a key signs that is to speak for an account: by this transaction
// of that signer and no other.
type keyProof struct {
	Network  identity.NetworkID `cbor:"1,keyasint"`
	Account  identity.AccountID `cbor:"2,keyasint"`
	Signer   identity.AccountID `cbor:"3,keyasint"`
	Sequence uint64             `cbor:"4,keyasint"`
}

// KeyProof is the proof that somebody has the key that is to sign for an account, for
// the transaction of signer with this sequence number. The signer is the account
// itself, or, of a Recover, the recovery account.
func KeyProof(key identity.PrivateKey, network identity.NetworkID, account, signer identity.AccountID, sequence uint64) Signature {
	return key.Sign(domain, typeKey, mustEncode(keyProof{network, account, signer, sequence}))
}

func checkKeyProof(tx *Transaction, account, key identity.AccountID, proof Signature) *Rejection {
	if !identity.Verify(key, domain, typeKey, mustEncode(keyProof{tx.Network, account, tx.Account, tx.Sequence}), proof) {
		return reject(NoProof, "the new key did not sign for the account")
	}
	return nil
}

func (o RotateKey) check(tx *Transaction) *Rejection {
	return checkKeyProof(tx, tx.Account, o.Key, o.Proof)
}

func (o SetRecovery) check(tx *Transaction) *Rejection {
	if o.Recovery == tx.Account {
		return reject(Malformed, "an account that recovers itself")
	}
	return nil
}

func (o Recover) check(tx *Transaction) *Rejection {
	if o.Account == tx.Account {
		return reject(Malformed, "an account that recovers itself")
	}
	return checkKeyProof(tx, o.Account, o.Key, o.Proof)
}

func (CancelRecovery) check(*Transaction) *Rejection { return nil }

// keysRow is which key signs for an account, and who may change that.
type keysRow struct {
	// Key is zero while it is the account's own.
	Key      identity.AccountID `cbor:"1,keyasint,omitzero"`
	Recovery identity.AccountID `cbor:"2,keyasint,omitzero"`
	// Pending is the key of a recovery under way, which takes effect at Due under the
	// row in the list of what falls due that is called Entry.
	Pending identity.AccountID `cbor:"3,keyasint,omitzero"`
	Since   int64              `cbor:"4,keyasint,omitzero"`
	Due     int64              `cbor:"5,keyasint,omitzero"`
	Entry   voucher.TransferID `cbor:"6,keyasint,omitzero"`
}

func keysKey(a identity.AccountID) []byte { return append([]byte{keysRef}, a[:]...) }

// of returns the key that signs for an account.
func (k keysRow) of(account identity.AccountID) identity.AccountID {
	if k.Key.IsZero() {
		return account
	}
	return k.Key
}

// authorise refuses a transaction whose signer does not speak for its account. It is
// the one place that decides this.
func (x *execution) authorise(tx *Transaction) *Rejection {
	if x.rules < rulesMarket {
		if !tx.delegate.IsZero() {
			return reject(UnknownOperation, "a key that speaks for another account, under rules of version %d", x.rules)
		}
		return nil
	}
	signer := tx.delegate
	if signer.IsZero() {
		signer = tx.Account
	}
	if x.signs(tx.Account, signer) || x.err != nil {
		return nil
	}
	return &Rejection{Code: WrongKey, Account: tx.Account}
}

// signs reports whether a key signs for an account.
func (x *execution) signs(account, key identity.AccountID) bool {
	c, _ := x.payer(account)
	if !c.rotated {
		return key == account
	}
	var keys keysRow
	load(x, keysKey(account), &keys)
	return keys.of(account) == key
}

// payer is counters of the account whose transaction is judged: they are looked up to
// see whose key signs, and again when it pays, and remembered in between.
func (x *execution) payer(id identity.AccountID) (Counters, bool) {
	c, exists := x.counters(id)
	if x.err == nil {
		x.payerRow.id, x.payerRow.counters, x.payerRow.exists, x.payerRow.known = id, c, exists, true
	}
	return c, exists
}

// setKey makes a key sign for an account, and marks the account's money row.
func (x *execution) setKey(account identity.AccountID, keys keysRow, key identity.AccountID) {
	keys.Key = key
	x.write(keysKey(account), keys)
	c, exists := x.counters(account)
	was := c
	c.rotated = true
	x.setCounters(account, was, c, exists)
}

func (o RotateKey) apply(x *execution, tx *Transaction) *Rejection {
	var keys keysRow
	load(x, keysKey(tx.Account), &keys)
	if x.err != nil {
		return nil
	}
	if keys.of(tx.Account) == o.Key {
		return reject(Malformed, "the key signs for the account already")
	}
	x.setKey(tx.Account, keys, o.Key)
	return nil
}

func (o SetRecovery) apply(x *execution, tx *Transaction) *Rejection {
	var keys keysRow
	load(x, keysKey(tx.Account), &keys)
	if !keys.Pending.IsZero() {
		return &Rejection{Code: RecoveryPending, Account: tx.Account, Time: keys.Due}
	}
	keys.Recovery = o.Recovery
	if keys == (keysRow{}) {
		x.state.set(keysKey(tx.Account), nil)
	} else {
		x.write(keysKey(tx.Account), keys)
	}
	return nil
}

func (o Recover) apply(x *execution, tx *Transaction) *Rejection {
	var keys keysRow
	load(x, keysKey(o.Account), &keys)
	switch {
	case x.err != nil:
		return nil
	case keys.Recovery.IsZero() || keys.Recovery != tx.Account:
		return &Rejection{Code: NotRecovery, Account: o.Account}
	case !keys.Pending.IsZero():
		return &Rejection{Code: RecoveryPending, Account: o.Account, Time: keys.Due}
	case keys.of(o.Account) == o.Key:
		return reject(Malformed, "the key signs for the account already")
	}
	delay := x.parameters.RecoveryDelay
	if delay == 0 {
		delay = defaultRecovery
	}
	keys.Pending, keys.Since, keys.Due, keys.Entry = o.Key, x.time, x.time+delay, voucher.TransferID(tx.id[:16])
	self := reference{kind: keysRef, account: o.Account, id: keys.Entry}
	next := x.fallsDue(self, keys.Due)
	x.state.set(x.keyOf(self), next.append(nil))
	x.write(keysKey(o.Account), keys)
	return nil
}

func (CancelRecovery) apply(x *execution, tx *Transaction) *Rejection {
	var keys keysRow
	load(x, keysKey(tx.Account), &keys)
	if keys.Pending.IsZero() {
		return &Rejection{Code: NoRecovery, Account: tx.Account}
	}
	x.write(keysKey(tx.Account), keysRow{Key: keys.Key, Recovery: keys.Recovery})
	return nil
}

// endRecovery gives an account its new key, unless the recovery was cancelled.
func (x *execution) endRecovery(r reference) reference {
	b := x.get(x.keyOf(r))
	if b == nil {
		x.fail(fmt.Errorf("%w: a recovery that falls due does not exist", ErrCorrupt))
		return reference{}
	}
	next := x.reference(b)
	x.state.set(x.keyOf(r), nil)
	var keys keysRow
	load(x, keysKey(r.account), &keys)
	if x.err == nil && !keys.Pending.IsZero() && keys.Entry == r.id {
		x.setKey(r.account, keysRow{Recovery: keys.Recovery}, keys.Pending)
	}
	return next
}

// decodeSum reads a row that is one amount.
func decodeSum(b []byte) (voucher.Amount, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: sum of %d bytes", ErrCorrupt, len(b))
	}
	return voucher.Amount(binary.BigEndian.Uint64(b)), nil
}
