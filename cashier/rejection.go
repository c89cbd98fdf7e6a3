package cashier

import (
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ErrClosed is returned by a Ledger or Client that was closed.
var ErrClosed = errors.New("cashier: closed")

// ErrCorrupt is wrapped by every error that says the store or a block is not what
// the chain says it must be. The ledger stops rather than go on from there.
var ErrCorrupt = errors.New("cashier: ledger corrupt")

// ErrFormat is returned for a store written by a newer version, which is left
// untouched.
var ErrFormat = errors.New("cashier: store of a newer format")

// ErrNetwork is returned for a store, block or answer of another network.
var ErrNetwork = errors.New("cashier: of another network")

// Code says why a transaction or request was refused. The numbers travel on the
// wire and stand in blocks' results: append only.
type Code uint16

// The codes.
const (
	// Accepted is no refusal.
	Accepted Code = 0
	// Malformed bytes are no transaction or request.
	Malformed Code = 1
	// TooLarge is beyond a size limit.
	TooLarge Code = 2
	// BadSignature does not verify.
	BadSignature Code = 3
	// WrongNetwork was signed for another network.
	WrongNetwork Code = 4
	// UnknownOperation is one this version does not know.
	UnknownOperation Code = 5
	// Expired is past its ValidUntil.
	Expired Code = 6
	// StaleSequence is not above the account's last number, which Rejection.Sequence tells.
	StaleSequence Code = 7
	// NameTaken is registered already; Rejection.Owner and Service tell by whom.
	NameTaken Code = 8
	// NotOwner does not own the name; Rejection.Owner tells who does.
	NotOwner Code = 9
	// NotRegistered is free.
	NotRegistered Code = 10
	// NoConsent lacks the consent of the service the name is to point at.
	NoConsent Code = 11
	// NotOffered was not offered to this account.
	NotOffered Code = 12
	// TooManyNames is beyond the names one account may have.
	TooManyNames Code = 13
	// NotAllowed is reserved to the network's founder.
	NotAllowed Code = 14
	// NameBusy was changed in the same block already; submit again.
	NameBusy Code = 15
	// ExistsElsewhere exists in the real zone, and control there is not proved.
	ExistsElsewhere Code = 16
	// RateLimited asked too often; wait.
	RateLimited Code = 17
	// OverCapacity is a ledger with too much to do at the moment; wait.
	OverCapacity Code = 18
	// Unavailable is a ledger that cannot answer now: stopping, or its disk failed.
	Unavailable Code = 19
	// NotFound is a path or block that does not exist.
	NotFound Code = 20
	// Internal is a fault of the ledger's own.
	Internal Code = 21
	// InsufficientFunds has less than it would spend; Rejection.Available tells how
	// much, Account whose it is.
	InsufficientFunds Code = 22
	// DuplicateID was used by another transaction of the account.
	DuplicateID Code = 23
	// ZeroAmount moves nothing.
	ZeroAmount Code = 24
	// Overflow is more than 64 bits can count.
	Overflow Code = 25
	// CapExceeded is more money than there may be; Rejection.Available tells how
	// much more there may be.
	CapExceeded Code = 26
	// NoHold is a reserved amount that does not exist, or no longer.
	NoHold Code = 27
	// HoldSettled was posted, voided or expired before.
	HoldSettled Code = 28
	// ExceedsHold is more than was reserved; Rejection.Available tells how much was.
	ExceedsHold Code = 29
	// BadDeadline is a time missing, passed, or too far ahead.
	BadDeadline Code = 30
	// TrailingBytes has bytes behind its end. It is Malformed to errors.Is as well.
	TrailingBytes Code = 31

	// NoChannel is a channel that does not exist, or is forgotten.
	NoChannel Code = 40
	// ChannelOver is a channel that is closed, or whose time has passed.
	ChannelOver Code = 41
	// ChannelIsClosing is a channel its client wants to close already.
	ChannelIsClosing Code = 42
	// ExceedsDeposit is more than the channel's deposit, which Rejection.Available tells.
	ExceedsDeposit Code = 43
	// OtherChannel is a voucher for another channel than it came with.
	OtherChannel Code = 44
	// WrongSession is a voucher signed by another key than the channel's.
	WrongSession Code = 45
	// NoAsk is an ask that is not posted, or not valid at present.
	NoAsk Code = 46
	// StaleAsk has a number not above that of the last ask, which Rejection.Sequence
	// tells.
	StaleAsk Code = 47
	// TooSoon is a change that was not announced long enough before; Rejection.Time
	// tells when it may begin.
	TooSoon Code = 48
	// DepositTooSmall is below the smallest deposit, which Rejection.Available tells.
	DepositTooSmall Code = 49
	// OtherProvider is a voucher for another provider than the batch's.
	OtherProvider Code = 50
	// NotHigher is no more than what was settled, which Rejection.Available tells.
	NotHigher Code = 51
	// NotClosing is a channel its client does not want to close.
	NotClosing Code = 52
	// BatchTooLarge is a batch of more than MaxBatchVouchers vouchers.
	BatchTooLarge Code = 53
	// NotGranted lacks the grant of the service that money is asked for.
	NotGranted Code = 54
	// NoNodeConsent lacks the signature of the node that is to deliver.
	NoNodeConsent Code = 55
	// NothingPaid is a batch of which every voucher is refused.
	NothingPaid Code = 56

	// CommitFirst is a registration where a name has to be committed to before.
	CommitFirst Code = 60
	// NoCommit is a reveal of what the account did not commit to, or revealed already.
	NoCommit Code = 61
	// CommitImmature is a reveal that comes too early; Rejection.RetryAfter and Time
	// tell when it may come.
	CommitImmature Code = 62
	// CommitLapsed is a reveal that comes more than a day after its commit.
	CommitLapsed Code = 63
	// CommitExists is a commit that was made before.
	CommitExists Code = 64
	// BadTerm is a lease too short, too long, or no longer than the one there is.
	BadTerm Code = 65
	// LeaseEnded is a name that has to be renewed first.
	LeaseEnded Code = 66
	// WrongKey is a key that does not sign for the account, or no longer.
	WrongKey Code = 67
	// NotRecovery is not the recovery account of the account.
	NotRecovery Code = 68
	// RecoveryPending is an account whose recovery is under way; Rejection.Time tells
	// until when its key may cancel it.
	RecoveryPending Code = 69
	// NoRecovery is an account whose recovery is not under way.
	NoRecovery Code = 70
	// NotStaked is more than the account has staked, which Rejection.Available tells.
	NotStaked Code = 71
	// TooManyUnbondings is an account of which too many amounts unbond already.
	TooManyUnbondings Code = 72
	// NoProof lacks the signature of a key that it is to bind.
	NoProof Code = 73
	// NotBound is a binding that is not the account's.
	NotBound Code = 74
	// RolledBack is a ledger that was put back to an older state than it promised.
	RolledBack Code = 85
	// Pruned is a block that is kept no more.
	Pruned Code = 86
	// AllowanceUsed has made as many transactions in this epoch as are free.
	AllowanceUsed Code = 87
	// NotFunded has no money, without which no transaction is free here.
	NotFunded Code = 88

	// InspectionOff is a network that has no inspectors, and nothing of inspection is
	// done.
	InspectionOff Code = 100
	// NotInspector is not an inspector, or not on the roster of the epoch.
	NotInspector Code = 101
	// Unbonded has not staked what an inspector must; Rejection.Available tells how much
	// that is.
	Unbonded Code = 102
	// InspectorExists is an inspector already, with another key or other labels.
	InspectorExists Code = 103
	// BadVRFKey is a key that proves nothing.
	BadVRFKey Code = 104
	// BadLabel is a label of an operator or a network that is none.
	BadLabel Code = 105
	// WrongEpoch comes before or after the time it may.
	WrongEpoch Code = 106
	// NoPlan is about an epoch without plans.
	NoPlan Code = 107
	// NoReportCommit is a report its inspector did not commit to.
	NoReportCommit Code = 108
	// ReportExists is another report, or commit, of an inspector on an epoch than there
	// is.
	ReportExists Code = 109
	// OtherReport is not the report that was committed to.
	OtherReport Code = 110
	// BadVRFProof is a proof that is not the key's, or not the proof of this.
	BadVRFProof Code = 111
	// Unplanned is a row that no plan has.
	Unplanned Code = 112
	// BadOutcome is a value that there cannot be.
	BadOutcome Code = 113
	// NoReport is a report that was not shown, or is forgotten.
	NoReport Code = 114
	// BadDetail is a detail that does not bear the row out.
	BadDetail Code = 115
	// BadReceipt lacks the provider's receipt for the probe.
	BadReceipt Code = 116
	// TooManyChallenges is a report of which enough is asked for.
	TooManyChallenges Code = 117
	// NotChallenged is a row that nobody asked for.
	NotChallenged Code = 118
	// NotAuthority is not the account that posts for seeds.
	NotAuthority Code = 119
	// NotListed is a provider that is not listed.
	NotListed Code = 120
	// RosterFull is one too many.
	RosterFull Code = 121
	// NoCanary is a canary that was not committed to in time.
	NoCanary Code = 122
)

var codeTexts = [...]string{
	Accepted:         "accepted",
	Malformed:        "malformed",
	TooLarge:         "too large",
	BadSignature:     "bad signature",
	WrongNetwork:     "signed for another network",
	UnknownOperation: "unknown operation",
	Expired:          "no longer valid",
	StaleSequence:    "sequence number already used",
	NameTaken:        "name is taken",
	NotOwner:         "not the name's owner",
	NotRegistered:    "name is not registered",
	NoConsent:        "no consent of the service",
	NotOffered:       "name was not offered to this account",
	TooManyNames:     "account has too many names",
	NotAllowed:       "only the network's founder may do this",
	NameBusy:         "name changed a moment ago",
	ExistsElsewhere:  "name exists in the Internet's zone and control there is not proved",
	RateLimited:      "too many requests",
	OverCapacity:     "ledger is over capacity",
	Unavailable:      "ledger is unavailable",
	NotFound:         "not found",
	Internal:         "internal error",

	InsufficientFunds: "not enough money",
	DuplicateID:       "transfer ID already used for something else",
	ZeroAmount:        "amount is zero",
	Overflow:          "amount too large",
	CapExceeded:       "more than the cap on money",
	NoHold:            "no such reserved amount",
	HoldSettled:       "reserved amount is settled",
	ExceedsHold:       "more than was reserved",
	BadDeadline:       "bad deadline",
	TrailingBytes:     "bytes after the end",

	NoChannel:        "no such channel",
	ChannelOver:      "channel is closed or its time has passed",
	ChannelIsClosing: "channel is closing",
	ExceedsDeposit:   "more than the channel's deposit",
	OtherChannel:     "voucher for another channel",
	WrongSession:     "voucher not signed by the channel's key",
	NoAsk:            "no such ask is valid",
	StaleAsk:         "ask's number already used",
	TooSoon:          "not announced long enough before",
	DepositTooSmall:  "deposit too small",
	OtherProvider:    "voucher for another provider",
	NotHigher:        "no more than what was settled",
	NotClosing:       "channel is not closing",
	BatchTooLarge:    "too many vouchers in one batch",
	NotGranted:       "not granted by the service",
	NoNodeConsent:    "no consent of the node",
	NothingPaid:      "no voucher of the batch can be settled",

	CommitFirst:       "a name has to be committed to before it is registered here",
	NoCommit:          "no commit to this name",
	CommitImmature:    "commit is too young to be revealed",
	CommitLapsed:      "commit is more than a day old",
	CommitExists:      "commit was made before",
	BadTerm:           "bad term of a lease",
	LeaseEnded:        "lease has ended: renew it first",
	WrongKey:          "key does not sign for the account",
	NotRecovery:       "not the recovery account",
	RecoveryPending:   "recovery is under way",
	NoRecovery:        "no recovery is under way",
	NotStaked:         "more than is staked",
	TooManyUnbondings: "too many amounts unbond already",
	NoProof:           "no proof of a key",

	RolledBack:    "ledger was put back to an older state than it promised",
	Pruned:        "block is kept no more",
	AllowanceUsed: "no more transactions are free in this epoch",
	NotFunded:     "only accounts with money may make transactions here",
	NotBound:      "no such binding",

	InspectionOff:     "nobody is inspected here",
	NotInspector:      "not an inspector on the roster",
	Unbonded:          "inspector has not staked enough",
	InspectorExists:   "already an inspector",
	BadVRFKey:         "bad VRF key",
	BadLabel:          "bad label",
	WrongEpoch:        "not in this epoch",
	NoPlan:            "no plans were made for the epoch",
	NoReportCommit:    "not committed to before",
	ReportExists:      "another report on this epoch exists",
	OtherReport:       "not what was committed to",
	BadVRFProof:       "bad VRF proof",
	Unplanned:         "not planned",
	BadOutcome:        "impossible value",
	NoReport:          "no such report",
	BadDetail:         "detail does not bear the row out",
	BadReceipt:        "no receipt of the provider's for this probe",
	TooManyChallenges: "too many rows are challenged",
	NotChallenged:     "row is not challenged",
	NotAuthority:      "not the authority for seeds",
	NotListed:         "provider is not listed",
	RosterFull:        "roster is full",
	NoCanary:          "no such canary",
}

// String returns the code in words.
func (c Code) String() string {
	if int(c) < len(codeTexts) && codeTexts[c] != "" {
		return codeTexts[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// Sentinels for errors.Is, one per code a caller acts upon. The errors returned
// are *Rejection and carry the details.
var (
	ErrMalformed       error = &Rejection{Code: Malformed}
	ErrTooLarge        error = &Rejection{Code: TooLarge}
	ErrSignature       error = &Rejection{Code: BadSignature}
	ErrWrongNetwork    error = &Rejection{Code: WrongNetwork}
	ErrExpired         error = &Rejection{Code: Expired}
	ErrStaleSequence   error = &Rejection{Code: StaleSequence}
	ErrTaken           error = &Rejection{Code: NameTaken}
	ErrNotOwner        error = &Rejection{Code: NotOwner}
	ErrNotRegistered   error = &Rejection{Code: NotRegistered}
	ErrNoConsent       error = &Rejection{Code: NoConsent}
	ErrNotOffered      error = &Rejection{Code: NotOffered}
	ErrTooManyNames    error = &Rejection{Code: TooManyNames}
	ErrExistsElsewhere error = &Rejection{Code: ExistsElsewhere}
	ErrRateLimited     error = &Rejection{Code: RateLimited}
	ErrOverCapacity    error = &Rejection{Code: OverCapacity}
	ErrUnavailable     error = &Rejection{Code: Unavailable}
	ErrUnknown         error = &Rejection{Code: UnknownOperation}
	ErrNotAllowed      error = &Rejection{Code: NotAllowed}
	ErrNotFound        error = &Rejection{Code: NotFound}

	ErrFunds       error = &Rejection{Code: InsufficientFunds}
	ErrDuplicateID error = &Rejection{Code: DuplicateID}
	ErrZeroAmount  error = &Rejection{Code: ZeroAmount}
	ErrOverflow    error = &Rejection{Code: Overflow}
	ErrCap         error = &Rejection{Code: CapExceeded}
	ErrNoHold      error = &Rejection{Code: NoHold}
	ErrHoldSettled error = &Rejection{Code: HoldSettled}
	ErrExceedsHold error = &Rejection{Code: ExceedsHold}
	ErrDeadline    error = &Rejection{Code: BadDeadline}
	ErrTrailing    error = &Rejection{Code: TrailingBytes}

	ErrNoChannel      error = &Rejection{Code: NoChannel}
	ErrChannelOver    error = &Rejection{Code: ChannelOver}
	ErrChannelClosing error = &Rejection{Code: ChannelIsClosing}
	ErrExceedsDeposit error = &Rejection{Code: ExceedsDeposit}
	ErrOtherChannel   error = &Rejection{Code: OtherChannel}
	ErrWrongSession   error = &Rejection{Code: WrongSession}
	ErrNoAsk          error = &Rejection{Code: NoAsk}
	ErrStaleAsk       error = &Rejection{Code: StaleAsk}
	ErrTooSoon        error = &Rejection{Code: TooSoon}
	ErrDeposit        error = &Rejection{Code: DepositTooSmall}
	ErrOtherProvider  error = &Rejection{Code: OtherProvider}
	ErrNotHigher      error = &Rejection{Code: NotHigher}
	ErrNotClosing     error = &Rejection{Code: NotClosing}
	ErrBatch          error = &Rejection{Code: BatchTooLarge}
	ErrNotGranted     error = &Rejection{Code: NotGranted}
	ErrNodeConsent    error = &Rejection{Code: NoNodeConsent}
	ErrNothingPaid    error = &Rejection{Code: NothingPaid}

	ErrCommitFirst       error = &Rejection{Code: CommitFirst}
	ErrNoCommit          error = &Rejection{Code: NoCommit}
	ErrCommitImmature    error = &Rejection{Code: CommitImmature}
	ErrCommitLapsed      error = &Rejection{Code: CommitLapsed}
	ErrCommitExists      error = &Rejection{Code: CommitExists}
	ErrTerm              error = &Rejection{Code: BadTerm}
	ErrLeaseEnded        error = &Rejection{Code: LeaseEnded}
	ErrWrongKey          error = &Rejection{Code: WrongKey}
	ErrNotRecovery       error = &Rejection{Code: NotRecovery}
	ErrRecoveryPending   error = &Rejection{Code: RecoveryPending}
	ErrNoRecovery        error = &Rejection{Code: NoRecovery}
	ErrNotStaked         error = &Rejection{Code: NotStaked}
	ErrTooManyUnbondings error = &Rejection{Code: TooManyUnbondings}
	ErrNoProof           error = &Rejection{Code: NoProof}

	ErrRolledBack    error = &Rejection{Code: RolledBack}
	ErrPruned        error = &Rejection{Code: Pruned}
	ErrAllowanceUsed error = &Rejection{Code: AllowanceUsed}
	ErrNotFunded     error = &Rejection{Code: NotFunded}
	ErrNotBound      error = &Rejection{Code: NotBound}

	ErrInspectionOff     error = &Rejection{Code: InspectionOff}
	ErrNotInspector      error = &Rejection{Code: NotInspector}
	ErrUnbonded          error = &Rejection{Code: Unbonded}
	ErrInspectorExists   error = &Rejection{Code: InspectorExists}
	ErrVRFKey            error = &Rejection{Code: BadVRFKey}
	ErrLabel             error = &Rejection{Code: BadLabel}
	ErrWrongEpoch        error = &Rejection{Code: WrongEpoch}
	ErrNoPlan            error = &Rejection{Code: NoPlan}
	ErrNoReportCommit    error = &Rejection{Code: NoReportCommit}
	ErrReportExists      error = &Rejection{Code: ReportExists}
	ErrOtherReport       error = &Rejection{Code: OtherReport}
	ErrVRFProof          error = &Rejection{Code: BadVRFProof}
	ErrUnplanned         error = &Rejection{Code: Unplanned}
	ErrOutcome           error = &Rejection{Code: BadOutcome}
	ErrNoReport          error = &Rejection{Code: NoReport}
	ErrDetail            error = &Rejection{Code: BadDetail}
	ErrReceiptMissing    error = &Rejection{Code: BadReceipt}
	ErrTooManyChallenges error = &Rejection{Code: TooManyChallenges}
	ErrNotChallenged     error = &Rejection{Code: NotChallenged}
	ErrNotAuthority      error = &Rejection{Code: NotAuthority}
	ErrNotListed         error = &Rejection{Code: NotListed}
	ErrRosterFull        error = &Rejection{Code: RosterFull}
	ErrNoCanary          error = &Rejection{Code: NoCanary}
)

// Rejection is a refusal with what its receiver needs to know. It is the error
// type of Ledger, Client and Wallet, and the body of an HTTP answer other than
// 200. Two rejections match in errors.Is when their codes are equal.
//
// Rules for adding a field: next integer key, omitzero, never reuse a key.
type Rejection struct {
	Code Code `cbor:"1,keyasint"`
	// Name is the name it is about, if any.
	Name name.Name `cbor:"2,keyasint,omitzero"`
	// Owner and Service tell who holds the name.
	Owner   identity.AccountID `cbor:"3,keyasint,omitzero"`
	Service identity.ServiceID `cbor:"4,keyasint,omitzero"`
	// Sequence is the account's last, with StaleSequence.
	Sequence uint64 `cbor:"5,keyasint,omitzero"`
	// Time is the ledger's, in Unix seconds, with Expired.
	Time int64 `cbor:"6,keyasint,omitzero"`
	// RetryAfter is how many seconds to wait, with RateLimited and OverCapacity.
	RetryAfter uint32 `cbor:"7,keyasint,omitzero"`
	// Detail says more, for people.
	Detail string `cbor:"8,keyasint,omitzero"`
	// Account and Available tell who has, or may have, how much.
	Account   identity.AccountID `cbor:"9,keyasint,omitzero"`
	Available voucher.Amount     `cbor:"10,keyasint,omitzero"`
}

// Error describes the rejection in one line.
func (r *Rejection) Error() string {
	s := r.Code.String()
	if r.Name != "" {
		s = fmt.Sprintf("name %q: %s", string(r.Name), s)
	}
	switch {
	case r.Code == NameTaken && !r.Owner.IsZero():
		s += fmt.Sprintf(" by account %s for service %s", r.Owner, r.Service)
	case r.Code == NotOwner && !r.Owner.IsZero():
		s += fmt.Sprintf(", which is account %s", r.Owner)
	case r.Code == StaleSequence:
		s += fmt.Sprintf(", the last is %d", r.Sequence)
	case r.Code == InsufficientFunds:
		s += fmt.Sprintf(": %s is available", r.Available)
	case r.Code == CapExceeded:
		s += fmt.Sprintf(": %s more may be issued", r.Available)
	case r.Code == NotStaked:
		s += fmt.Sprintf(": %s is", r.Available)
	case r.Code == CommitImmature && r.RetryAfter > 0:
		s += fmt.Sprintf(", try in %d s", r.RetryAfter)
	case r.Code == StaleAsk:
		s += fmt.Sprintf(", the last is %d", r.Sequence)
	case r.Code == DepositTooSmall, r.Code == Unbonded:
		s += fmt.Sprintf(": at least %s", r.Available)
	case r.Code == ExceedsHold, r.Code == ExceedsDeposit, r.Code == NotHigher:
		s += fmt.Sprintf(", which is %s", r.Available)
	}
	if r.Detail != "" {
		s += ": " + r.Detail
	}
	return s
}

// Is reports whether target is a Rejection with the same code.
func (r *Rejection) Is(target error) bool {
	t, ok := target.(*Rejection)
	return ok && (t.Code == r.Code || t.Code == Malformed && r.Code == TrailingBytes)
}

// orNil keeps a nil rejection from becoming an error that is not nil.
func (r *Rejection) orNil() error {
	if r == nil {
		return nil
	}
	return r
}

// reject returns a rejection with a formatted detail.
func reject(code Code, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// asRejection returns err as a Rejection; what is none becomes Internal.
func asRejection(err error) *Rejection {
	if r, ok := errors.AsType[*Rejection](err); ok {
		return r
	}
	if errors.Is(err, ErrClosed) {
		return reject(Unavailable, "closed")
	}
	return reject(Internal, "")
}
