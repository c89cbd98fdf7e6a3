package cashier

import (
	"fmt"
	"net/http"
	"slices"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// The protocol is HTTP/1.1. Bodies are deterministic CBOR; an answer other than
// 200 carries a Rejection.
//
//	POST /v1/transactions                         signed transaction → Receipt
//	GET  /v1/names/{name}?since=H                 → nameReply
//	GET  /v1/accounts/{id}/names?after=N          → namesReply
//	GET  /v1/status                               → signed Status
//	GET  /v1/blocks/{height}                      → blocksReply
//	GET  /v1/genesis                              → signed Genesis
//	GET  /v1/channels/{id}?since=H                → proved
//	GET  /v1/accounts/{id}/channels?after=ID      → signed channelsReply
//	GET  /v1/asks/{service}?after=NODE            → signed asksReply
//	GET  /v1/accounts/{id}?since=H                → accountReply
//	GET  /v1/checkpoint?since=H                   → proved, without rows
//	GET  /v1/nodes/{id}/bindings                  → signed Bindings
//	GET  /v1/inspection                           → signed Inspection
//	GET  /v1/epochs/{epoch}?after=CHUNK           → signed InspectionEpoch
//	GET  /v1/epochs/{epoch}/reports?after=N       → signed reportsReply
//	GET  /v1/inspectors/{id}                      → signed InspectorState
//	GET  /v1/scores/{service}?after=NODE          → signed scoresReply
//	POST /v1/witness                              a signed Checkpoint → nothing
//	GET  /v1/forks                                → forksReply
const (
	pathWitness      = "/v1/witness"
	pathForks        = "/v1/forks"
	pathTransactions = "/v1/transactions"
	pathNames        = "/v1/names/"
	pathAccounts     = "/v1/accounts/"
	pathStatus       = "/v1/status"
	pathBlocks       = "/v1/blocks/"
	pathGenesis      = "/v1/genesis"
	pathChannels     = "/v1/channels/"
	pathAsks         = "/v1/asks/"
	pathNodes        = "/v1/nodes/"
	pathCheckpoint   = "/v1/checkpoint"
	pathInspection   = "/v1/inspection"
	pathEpochs       = "/v1/epochs/"
	pathInspectors   = "/v1/inspectors/"
	pathScores       = "/v1/scores/"

	contentType = "application/cbor"
)

// Limits of what is asked and answered at once.
const (
	maxNamesPage  = 256
	maxBlocksPage = 256
	maxBlocksSize = 1 << 20
	maxReply      = identity.MaxEnvelope // of everything but blocks
)

// nameReply answers a lookup: the rows of nameKeys, proved, and a signed record where
// there is one.
type nameReply struct {
	Record []byte `cbor:"1,keyasint,omitempty"`
	Proved proved `cbor:"2,keyasint"`
}

// accountReply is a signed Account and the rows of accountKeys, proved.
type accountReply struct {
	Account []byte `cbor:"1,keyasint"`
	Proved  proved `cbor:"2,keyasint"`
}

type namesReply struct {
	Names []OwnedName `cbor:"1,keyasint"`
}

type blocksReply struct {
	Blocks [][]byte `cbor:"1,keyasint"`
}

// sealAs signs a value under the ledger's domain.
func sealAs(key identity.PrivateKey, typ string, v any) ([]byte, error) {
	p, err := identity.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	return key.Seal(domain, typ, p)
}

// openAnswer verifies a value an authority signed.
func openAnswer(typ string, b []byte, authorities []identity.NodeID, v any) error {
	e, err := identity.Open(domain, typ, b)
	if err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	if !slices.Contains(authorities, identity.NodeID(e.Signer)) {
		return fmt.Errorf("%s: %w", typ, name.ErrAuthority)
	}
	if err := identity.Unmarshal(e.Payload, v); err != nil {
		return fmt.Errorf("%s: %w: %w", typ, identity.ErrMalformed, err)
	}
	return nil
}

// httpStatus is the status a code travels under. Clients go by the code.
func httpStatus(c Code) int {
	switch c {
	case Accepted:
		return http.StatusOK
	case TooLarge, BatchTooLarge:
		return http.StatusRequestEntityTooLarge
	case BadSignature, NotFunded, NoConsent, WrongKey, NotRecovery, NoProof, NotOwner, NotOffered, NotAllowed, ExistsElsewhere,
		WrongSession, NotGranted, NoNodeConsent, NotInspector, Unbonded, BadVRFProof, NotAuthority:
		return http.StatusForbidden
	case NameTaken, StaleSequence, NameBusy, Expired, TooManyNames,
		InsufficientFunds, DuplicateID, Overflow, CapExceeded, HoldSettled, ExceedsHold,
		ChannelOver, ChannelIsClosing, ExceedsDeposit, StaleAsk, TooSoon, DepositTooSmall, NotHigher, NotClosing, NothingPaid,
		CommitFirst, CommitImmature, CommitLapsed, CommitExists, LeaseEnded, RecoveryPending, NotStaked, TooManyUnbondings,
		InspectionOff, InspectorExists, WrongEpoch, ReportExists, NoReportCommit, TooManyChallenges, RosterFull:
		return http.StatusConflict
	case Pruned:
		return http.StatusGone
	case NotRegistered, NotFound, NoHold, NoChannel, NoAsk, NoCommit, NoRecovery, NotBound,
		NoPlan, NoReport, NotChallenged, NotListed, NoCanary:
		return http.StatusNotFound
	case RateLimited, AllowanceUsed:
		return http.StatusTooManyRequests
	case OverCapacity, Unavailable, RolledBack:
		return http.StatusServiceUnavailable
	case Internal:
		return http.StatusInternalServerError
	case Malformed, WrongNetwork, UnknownOperation, ZeroAmount, BadDeadline, TrailingBytes, OtherChannel, OtherProvider, BadTerm,
		BadVRFKey, BadLabel, OtherReport, Unplanned, BadOutcome, BadDetail, BadReceipt:
		return http.StatusBadRequest
	}
	return http.StatusBadRequest
}
