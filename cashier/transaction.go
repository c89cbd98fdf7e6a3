package cashier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// MaxTransaction is the largest signed transaction in bytes, but for a SettleBatch
// and a RevealReport.
// A name record carries the transaction it came from, and must stay within
// name.MaxSize.
const MaxTransaction = 2 << 10

// domain separates the ledger's signatures from all others.
const domain = "scn/ledger/v1"

// The types of what is signed under domain.
const (
	typeTransaction = "transaction"
	typeConsent     = "consent"
	typeCheckpoint  = "checkpoint"
	typeStatus      = "status"
	typeBase        = "base"
	typeBackup      = "backup"
	typeFork        = "fork"
	typeGenesis     = "genesis"
	typeAccount     = "account"
	typeClose       = "close"
	typeChannels    = "channels"
	typeAsks        = "asks"
	typeKey         = "key"
	typeBinding     = "binding"
	typeBindings    = "bindings"
	typeInspection  = "inspection"
	typeEpoch       = "epoch"
	typeInspector   = "inspector"
	typeScores      = "scores"
	typeReports     = "reports"
)

// Hash is a SHA-256 hash.
type Hash [sha256.Size]byte

// String returns the hash in hexadecimal.
func (h Hash) String() string { return fmt.Sprintf("%x", h[:]) }

// Signature is an Ed25519 signature.
type Signature [identity.SignatureSize]byte

// Transaction is one operation an account signs. OpenTransaction is the only way
// to get one that the machine accepts: it has verified every signature.
type Transaction struct {
	// Account signed it.
	Account identity.AccountID
	// Network is the ledger it is meant for.
	Network identity.NetworkID
	// Sequence is above that of every earlier transaction of the account; numbers
	// may be left out. See record.NextSequence. A transaction about money has none:
	// it has an ID.
	Sequence uint64
	// ValidUntil is the last second at which a block may take it, in Unix seconds.
	// 0 means no end, which a transaction about money must have.
	ValidUntil int64
	// Operation is what it does.
	Operation Operation

	// delegate is the key that signed for the account, zero when it is the account's
	// own; see authorise.
	delegate identity.AccountID

	id      Hash
	content [16]byte // of an operation about money; see contentOf
	signed  []byte
}

// payload is the signed form of a Transaction. The account is the envelope's
// signer. Unknown fields, kinds and trailing bytes are errors.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type payload struct {
	Network    identity.NetworkID `cbor:"1,keyasint"`
	Sequence   uint64             `cbor:"2,keyasint"`
	ValidUntil int64              `cbor:"3,keyasint,omitzero"`
	Kind       Kind               `cbor:"4,keyasint"`
	// Operation is the operation's own encoding.
	Operation []byte `cbor:"5,keyasint"`
	// Account is set where the signer's key speaks for another account.
	Account identity.AccountID `cbor:"6,keyasint,omitzero"`
}

// Sign signs the transaction with a key and returns its envelope, which is what a
// ledger takes. The account is the key's own, unless Account names another one,
// whose key was rotated to this one. Whether the operation makes sense is the
// ledger's to say.
func (tx Transaction) Sign(key identity.PrivateKey) ([]byte, error) {
	if tx.Operation == nil {
		return nil, reject(Malformed, "no operation")
	}
	op, err := identity.Marshal(tx.Operation)
	if err != nil {
		return nil, fmt.Errorf("encode operation: %w", err)
	}
	if tx.Account == key.Account() {
		tx.Account = identity.AccountID{}
	}
	p, err := identity.Marshal(payload{tx.Network, tx.Sequence, tx.ValidUntil, tx.Operation.Kind(), op, tx.Account})
	if err != nil {
		return nil, fmt.Errorf("encode transaction: %w", err)
	}
	b, err := key.Seal(domain, typeTransaction, p)
	if err != nil {
		return nil, fmt.Errorf("sign transaction: %w", err)
	}
	if r := checkSize(tx.Operation.Kind(), len(b)); r != nil {
		return nil, r
	}
	return b, nil
}

// OpenTransaction decodes and verifies a signed transaction of the network given.
// The transaction keeps b, which the caller must not change any more. Every error
// is a *Rejection.
func OpenTransaction(network identity.NetworkID, b []byte) (Transaction, error) {
	tx, e, err := decodeTransaction(network, b)
	if err != nil {
		return Transaction{}, err
	}
	if !identity.Verify(e.Signer, domain, typeTransaction, e.Payload, e.Signature) {
		return Transaction{}, &Rejection{Code: BadSignature}
	}
	if r := tx.Operation.check(&tx); r != nil {
		return Transaction{}, r
	}
	return tx, nil
}

// openTransactions is OpenTransaction of many, whose signatures it verifies in one
// batch: the verdicts are the same. It fills txs, which is as long as signed, and
// returns as many rejections, nil for what is good.
func openTransactions(network identity.NetworkID, signed [][]byte, txs []Transaction) []error {
	out := make([]error, len(signed))
	var batch identity.Batch
	var place []int // in out, of each signature in the batch
	for i, b := range signed {
		tx, e, err := decodeTransaction(network, b)
		if err != nil {
			out[i] = err
			continue
		}
		txs[i] = tx
		place = append(place, i)
		batch.Add(e.Signer, domain, typeTransaction, e.Payload, e.Signature)
	}
	all, each := batch.Verify()
	for k, i := range place {
		if !all && !each[k] {
			out[i] = &Rejection{Code: BadSignature}
		} else if r := txs[i].Operation.check(&txs[i]); r != nil {
			out[i] = r
		}
		if out[i] != nil {
			txs[i] = Transaction{}
		}
	}
	return out
}

// decodeTransaction decodes without verifying a signature, for blocks of our own.
func decodeTransaction(network identity.NetworkID, b []byte) (Transaction, identity.Envelope, error) {
	var e identity.Envelope
	if r := checkSize(KindSettleBatch, len(b)); r != nil { // the largest there is
		return Transaction{}, e, r
	}
	// What is no batch is too large before it is anything else.
	small := checkSize(0, len(b))
	switch err := identity.Unmarshal(b, &e); {
	case err != nil && small != nil:
		return Transaction{}, e, small
	case err != nil:
		return Transaction{}, e, malformed("envelope", err)
	case e.Type != typeTransaction:
		return Transaction{}, e, reject(Malformed, "not a transaction")
	}
	var p payload
	if err := identity.Unmarshal(e.Payload, &p); err != nil {
		return Transaction{}, e, malformed("transaction", err)
	}
	if p.Network != network {
		return Transaction{}, e, &Rejection{Code: WrongNetwork}
	}
	if r := checkSize(p.Kind, len(b)); r != nil {
		return Transaction{}, e, r
	}
	tx := Transaction{
		Account: e.Signer, Network: p.Network, Sequence: p.Sequence, ValidUntil: p.ValidUntil,
		id: transactionID(e), signed: b,
	}
	switch {
	case tx.ValidUntil < 0:
		return Transaction{}, e, reject(Malformed, "negative time")
	case p.Account == e.Signer:
		return Transaction{}, e, reject(Malformed, "a key that speaks for itself")
	case !p.Account.IsZero():
		tx.Account, tx.delegate = p.Account, e.Signer
	}
	var err error
	if tx.Operation, err = openOperation(p.Kind, p.Operation); err != nil {
		return Transaction{}, e, err
	}
	if _, ok := tx.Operation.(identified); ok {
		tx.content = contentOf(p.Kind, p.Operation)
	}
	return tx, e, nil
}

// checkSize refuses a signed transaction that is too large for its kind.
func checkSize(kind Kind, size int) *Rejection {
	limit := MaxTransaction
	switch kind {
	case KindSettleBatch:
		limit = MaxBatchTransaction
	case KindRevealReport:
		limit = MaxReportTransaction
	default:
	}
	if size > limit {
		return reject(TooLarge, "transaction of %d bytes, at most %d", size, limit)
	}
	return nil
}

// contentOf tells operations about money apart that have the same ID. The deadline
// is not in it: a payment signed again with a later one is the same payment.
func contentOf(kind Kind, operation []byte) [16]byte {
	h := sha256.New()
	h.Write([]byte("scn/ledger/v1 content"))
	h.Write([]byte{byte(kind >> 8), byte(kind)})
	h.Write(operation)
	return [16]byte(h.Sum(nil))
}

// ID identifies the transaction by what was signed and by whom. It is zero unless
// the transaction came from OpenTransaction.
func (tx Transaction) ID() Hash { return tx.id }

// Signed returns the envelope as received. The caller must not change it.
func (tx Transaction) Signed() []byte { return tx.signed }

// transactionID leaves the signature out, so that one content has one ID however
// often it was signed.
func transactionID(e identity.Envelope) (id Hash) {
	h := sha256.New()
	h.Write([]byte("scn/ledger/v1 transaction id"))
	h.Write(e.Signer[:])
	h.Write(e.Payload)
	h.Sum(id[:0])
	return id
}

func openOperation(kind Kind, b []byte) (Operation, error) {
	switch kind {
	case KindRegister:
		return openAs[Register](b)
	case KindUpdate:
		return openAs[Update](b)
	case KindOffer:
		return openAs[Offer](b)
	case KindAccept:
		return openAs[Accept](b)
	case KindRelease:
		return openAs[Release](b)
	case KindSetParameters:
		return openAs[SetParameters](b)
	case KindTransfer:
		return openAs[Transfer](b)
	case KindIssue:
		return openAs[Issue](b)
	case KindRedeem:
		return openAs[Redeem](b)
	case KindOpenChannel:
		return openAs[OpenChannel](b)
	case KindTopUpChannel:
		return openAs[TopUpChannel](b)
	case KindSettleChannel:
		return openAs[SettleChannel](b)
	case KindSettleBatch:
		return openAs[SettleBatch](b)
	case KindCloseChannel:
		return openAs[CloseChannel](b)
	case KindRequestClose:
		return openAs[RequestClose](b)
	case KindRefute:
		return openAs[Refute](b)
	case KindPostAsk:
		return openAs[PostAsk](b)
	case KindStake:
		return openAs[Stake](b)
	case KindUnstake:
		return openAs[Unstake](b)
	case KindRotateKey:
		return openAs[RotateKey](b)
	case KindSetRecovery:
		return openAs[SetRecovery](b)
	case KindRecover:
		return openAs[Recover](b)
	case KindBind:
		return openAs[Bind](b)
	case KindCommitName:
		return openAs[CommitName](b)
	case KindRevealName:
		return openAs[RevealName](b)
	case KindRenewName:
		return openAs[RenewName](b)
	case KindCancelRecovery:
		return openAs[CancelRecovery](b)
	case KindAdmitInspector:
		return openAs[AdmitInspector](b)
	case KindWithdrawInspector:
		return openAs[WithdrawInspector](b)
	case KindListProvider:
		return openAs[ListProvider](b)
	case KindCommitReport:
		return openAs[CommitReport](b)
	case KindRevealReport:
		return openAs[RevealReport](b)
	case KindChallengeReport:
		return openAs[ChallengeReport](b)
	case KindAnswerChallenge:
		return openAs[AnswerChallenge](b)
	case KindCommitCanary:
		return openAs[CommitCanary](b)
	case KindRevealCanary:
		return openAs[RevealCanary](b)
	case KindAdmitAuthority:
		return openAs[AdmitAuthority](b)
	case KindPostSeed:
		return openAs[PostSeed](b)
	}
	return nil, reject(UnknownOperation, "%s", kind)
}

// malformed refuses bytes that do not decode, and tells those with more behind.
func malformed(what string, err error) *Rejection {
	if errors.Is(err, identity.ErrTrailing) {
		return reject(TrailingBytes, "%s", what)
	}
	return reject(Malformed, "%s: %v", what, err)
}

func openAs[T Operation](b []byte) (Operation, error) {
	var op T
	if err := identity.Unmarshal(b, &op); err != nil {
		return nil, malformed(op.Kind().String(), err)
	}
	return op, nil
}

// consent is what a service key signs so that a name may point at it: this name,
// of this account, by this transaction of that account and no other.
type consent struct {
	Network  identity.NetworkID `cbor:"1,keyasint"`
	Account  identity.AccountID `cbor:"2,keyasint"`
	Sequence uint64             `cbor:"3,keyasint"`
	Name     name.Name          `cbor:"4,keyasint"`
	Service  identity.ServiceID `cbor:"5,keyasint"`
}

// Consent returns the service key's consent that the transaction of account with
// this sequence number points the name at the service. Without it nobody could
// tell a service's own name from one somebody else hung on it.
func Consent(service identity.PrivateKey, network identity.NetworkID, account identity.AccountID, sequence uint64, n name.Name) Signature {
	b := consentBytes(consent{network, account, sequence, n, service.Service()})
	return service.Sign(domain, typeConsent, b)
}

func verifyConsent(tx *Transaction, n name.Name, service identity.ServiceID, s Signature) bool {
	b := consentBytes(consent{tx.Network, tx.Account, tx.Sequence, n, service})
	return identity.Verify(service, domain, typeConsent, b, s)
}

func consentBytes(c consent) []byte {
	b, err := identity.Marshal(c)
	if err != nil {
		panic(err) // plain values always encode
	}
	return b
}

// appendUint64 keys rows so that they sort by number.
func appendUint64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }
