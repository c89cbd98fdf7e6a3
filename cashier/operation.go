package cashier

import (
	"fmt"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Kind is the kind of an operation. The numbers stand in signed transactions:
// append only.
type Kind uint16

// The kinds.
const (
	KindRegister      Kind = 1
	KindUpdate        Kind = 2
	KindOffer         Kind = 3
	KindAccept        Kind = 4
	KindRelease       Kind = 5
	KindSetParameters Kind = 6
	KindTransfer      Kind = 7
	KindIssue         Kind = 8
	KindRedeem        Kind = 9

	KindOpenChannel   Kind = 10
	KindTopUpChannel  Kind = 11
	KindSettleChannel Kind = 12
	KindSettleBatch   Kind = 13
	KindCloseChannel  Kind = 14
	KindRequestClose  Kind = 15
	KindRefute        Kind = 16
	KindPostAsk       Kind = 17

	KindStake          Kind = 18
	KindUnstake        Kind = 19
	KindRotateKey      Kind = 20
	KindSetRecovery    Kind = 21
	KindRecover        Kind = 22
	KindBind           Kind = 23
	KindCommitName     Kind = 24
	KindRevealName     Kind = 25
	KindRenewName      Kind = 26
	KindCancelRecovery Kind = 27

	KindAdmitInspector    Kind = 30
	KindWithdrawInspector Kind = 31
	KindListProvider      Kind = 32
	KindCommitReport      Kind = 33
	KindRevealReport      Kind = 34
	KindChallengeReport   Kind = 35
	KindAnswerChallenge   Kind = 36
	KindCommitCanary      Kind = 37
	KindRevealCanary      Kind = 38
	KindAdmitAuthority    Kind = 40
	KindPostSeed          Kind = 41
)

// String returns the kind as a word.
func (k Kind) String() string {
	switch k {
	case KindRegister:
		return "register"
	case KindUpdate:
		return "update"
	case KindOffer:
		return "offer"
	case KindAccept:
		return "accept"
	case KindRelease:
		return "release"
	case KindSetParameters:
		return "set-parameters"
	case KindTransfer:
		return "transfer"
	case KindIssue:
		return "issue"
	case KindRedeem:
		return "redeem"
	case KindOpenChannel:
		return "open-channel"
	case KindTopUpChannel:
		return "top-up-channel"
	case KindSettleChannel:
		return "settle-channel"
	case KindSettleBatch:
		return "settle-batch"
	case KindCloseChannel:
		return "close-channel"
	case KindRequestClose:
		return "request-close"
	case KindRefute:
		return "refute"
	case KindPostAsk:
		return "post-ask"
	case KindStake:
		return "stake"
	case KindUnstake:
		return "unstake"
	case KindRotateKey:
		return "rotate-key"
	case KindSetRecovery:
		return "set-recovery"
	case KindRecover:
		return "recover"
	case KindBind:
		return "bind"
	case KindCommitName:
		return "commit-name"
	case KindRevealName:
		return "reveal-name"
	case KindRenewName:
		return "renew-name"
	case KindCancelRecovery:
		return "cancel-recovery"
	case KindAdmitInspector:
		return "admit-inspector"
	case KindWithdrawInspector:
		return "withdraw-inspector"
	case KindListProvider:
		return "list-provider"
	case KindCommitReport:
		return "commit-report"
	case KindRevealReport:
		return "reveal-report"
	case KindChallengeReport:
		return "challenge-report"
	case KindAnswerChallenge:
		return "answer-challenge"
	case KindCommitCanary:
		return "commit-canary"
	case KindRevealCanary:
		return "reveal-canary"
	case KindAdmitAuthority:
		return "admit-authority"
	case KindPostSeed:
		return "post-seed"
	}
	return fmt.Sprintf("kind-%d", uint16(k))
}

// rules returns the first version of the rules that knows the kind.
func (k Kind) rules() uint64 {
	switch {
	case k <= KindSetParameters:
		return rulesNames
	case k <= KindRedeem:
		return rulesMoney
	}
	return rulesMarket
}

// Operation is what a transaction does: one of Register, Update, Offer, Accept,
// Release and SetParameters; of Transfer, Issue and Redeem; of OpenChannel,
// TopUpChannel, SettleChannel, SettleBatch, CloseChannel, RequestClose, Refute and
// PostAsk; of Stake, Unstake, RotateKey, SetRecovery, Recover, CancelRecovery and Bind;
// of CommitName, RevealName and RenewName; of AdmitInspector, WithdrawInspector,
// ListProvider, CommitReport, RevealReport, ChallengeReport, AnswerChallenge,
// CommitCanary, RevealCanary, AdmitAuthority and PostSeed. A new kind of operation is a new type with
// the next Kind, and known from a new version of the rules on.
type Operation interface {
	// Kind returns the operation's kind.
	Kind() Kind
	// check refuses what no state can make valid.
	check(tx *Transaction) *Rejection
	// apply judges the operation against the state and makes its changes.
	apply(x *execution, tx *Transaction) *Rejection
}

// Register claims a free name for the signer and points it at a service. It works
// while the reveal delay is 0; otherwise see CommitName.
type Register struct {
	Name    name.Name          `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	// Consent is the service key's; see Consent.
	Consent Signature `cbor:"3,keyasint"`
	// Term is how long it is held, in seconds, 0 for the usual one; see RenewName.
	Term int64 `cbor:"4,keyasint,omitzero"`
}

// Update points a name of the signer at another service. It withdraws an offer.
type Update struct {
	Name    name.Name          `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Consent Signature          `cbor:"3,keyasint"`
}

// Offer offers a name of the signer to another account, which becomes the owner
// when it accepts. Until then the name stays as it is. The zero account withdraws
// the offer.
type Offer struct {
	Name name.Name          `cbor:"1,keyasint"`
	To   identity.AccountID `cbor:"2,keyasint,omitzero"`
}

// Accept takes a name that was offered to the signer and points it at a service.
type Accept struct {
	Name    name.Name          `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Consent Signature          `cbor:"3,keyasint"`
}

// Release gives a name of the signer up: anybody may register it then.
type Release struct {
	Name name.Name `cbor:"1,keyasint"`
}

// SetParameters replaces the ledger's parameters. Only the network's key may.
type SetParameters struct {
	Parameters Parameters `cbor:"1,keyasint"`
}

// Kind implements Operation.
func (Register) Kind() Kind { return KindRegister }

// Kind implements Operation.
func (Update) Kind() Kind { return KindUpdate }

// Kind implements Operation.
func (Offer) Kind() Kind { return KindOffer }

// Kind implements Operation.
func (Accept) Kind() Kind { return KindAccept }

// Kind implements Operation.
func (Release) Kind() Kind { return KindRelease }

// Kind implements Operation.
func (SetParameters) Kind() Kind { return KindSetParameters }

func (o Register) check(tx *Transaction) *Rejection {
	if r := checkTarget(tx, o.Name, o.Service, o.Consent); r != nil {
		return r
	}
	return checkTerm(o.Name, o.Term)
}

func (o Update) check(tx *Transaction) *Rejection {
	return checkTarget(tx, o.Name, o.Service, o.Consent)
}

func (o Offer) check(tx *Transaction) *Rejection {
	if o.To == tx.Account {
		return &Rejection{Code: Malformed, Name: o.Name, Detail: "offered to its owner"}
	}
	return checkName(o.Name)
}

func (o Accept) check(tx *Transaction) *Rejection {
	return checkTarget(tx, o.Name, o.Service, o.Consent)
}

func (o Release) check(*Transaction) *Rejection { return checkName(o.Name) }

func (o SetParameters) check(tx *Transaction) *Rejection {
	if tx.Account != identity.AccountID(tx.Network) {
		return reject(NotAllowed, "parameters")
	}
	if err := o.Parameters.Validate(); err != nil {
		return reject(Malformed, "%v", err)
	}
	return nil
}

// checkName refuses a name that is not valid and in lower case.
func checkName(n name.Name) *Rejection {
	switch parsed, err := name.Parse(string(n)); {
	case err != nil:
		return reject(Malformed, "%v", err)
	case parsed != n:
		return &Rejection{Code: Malformed, Name: parsed, Detail: "name not in lower case"}
	}
	return nil
}

// checkTarget refuses a target whose service did not consent.
func checkTarget(tx *Transaction, n name.Name, service identity.ServiceID, consent Signature) *Rejection {
	if r := checkName(n); r != nil {
		return r
	}
	if !verifyConsent(tx, n, service, consent) {
		return &Rejection{Code: NoConsent, Name: n, Service: service}
	}
	return nil
}
