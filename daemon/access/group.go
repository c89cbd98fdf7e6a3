package access

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
)

// What a group's signature is about.
const (
	domain    = "scn.access"
	groupType = "group"
)

// MaxMembers is how many nodes and accounts one group lists.
const MaxMembers = 1500

// MaxGroupFile bounds the file of a group in bytes.
const MaxGroupFile = 128 << 10

// pemGroup is the type of the PEM block of a group's file.
const pemGroup = "SCN GROUP"

// Errors of groups.
var (
	// ErrGroupFile is returned for bytes that are no group file.
	ErrGroupFile = errors.New("access: not a group file")
	// ErrGroupAltered is returned for a list that its key did not sign.
	ErrGroupAltered = errors.New("access: the group file was altered, or signed by another key")
	// ErrGroupExpired is returned for a list beyond its last day.
	ErrGroupExpired = errors.New("access: the group has expired")
	// ErrGroupOld is returned for a list older than one known before.
	ErrGroupOld = errors.New("access: the group file is older than the one known before")
	// ErrGroupMissing is returned for a group whose file is not there.
	ErrGroupMissing = errors.New("access: no such group")
	// ErrGroupLimit is returned for a list beyond MaxMembers, or out of order.
	ErrGroupLimit = errors.New("access: group list too long or out of order")
)

// Group is a list of nodes and accounts, signed by the group's key.
//
// Rules for adding a field: next integer key, omitempty, never reuse a key; older
// nodes refuse unknown keys, so a new field needs a new envelope type.
type Group struct {
	ID identity.GroupID `cbor:"1,keyasint"`
	// Sequence grows with each change.
	Sequence uint64 `cbor:"2,keyasint"`
	// NotAfter is the last second the list is believed, in Unix seconds.
	NotAfter int64 `cbor:"3,keyasint"`
	// Nodes and Accounts are the members, in ascending order.
	Nodes    []identity.NodeID    `cbor:"4,keyasint"`
	Accounts []identity.AccountID `cbor:"5,keyasint"`
}

func (g Group) validate() error {
	if len(g.Nodes)+len(g.Accounts) > MaxMembers || g.NotAfter < 0 ||
		!strictlyAscending(g.Nodes) || !strictlyAscending(g.Accounts) {
		return fmt.Errorf("%w: %d members, at most %d", ErrGroupLimit, len(g.Nodes)+len(g.Accounts), MaxMembers)
	}
	return nil
}

type id interface {
	~[identity.Size]byte
	comparable
}

func compareID[T id](a, b T) int {
	x, y := [identity.Size]byte(a), [identity.Size]byte(b)
	return bytes.Compare(x[:], y[:])
}

func strictlyAscending[T id](list []T) bool {
	for i := 1; i < len(list); i++ {
		if compareID(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// Seal signs the list with the group's key and returns its file.
func (g Group) Seal(key identity.PrivateKey) ([]byte, error) {
	if key.Group() != g.ID {
		return nil, ErrGroupAltered
	}
	if err := g.validate(); err != nil {
		return nil, err
	}
	payload, err := identity.Marshal(g)
	if err != nil {
		return nil, err
	}
	envelope, err := key.Seal(domain, groupType, payload)
	if err != nil {
		return nil, err
	}
	if len(envelope) > identity.MaxEnvelope {
		return nil, ErrGroupLimit
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemGroup, Bytes: envelope}), nil
}

// OpenGroup reads a group's file and verifies its signature. It does not look at
// the last day: Check does.
func OpenGroup(file []byte) (Group, error) {
	if len(file) > MaxGroupFile {
		return Group{}, fmt.Errorf("%w: %d bytes, at most %d", ErrGroupFile, len(file), MaxGroupFile)
	}
	block, rest := pem.Decode(file)
	if block == nil || block.Type != pemGroup || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return Group{}, ErrGroupFile
	}
	envelope, err := identity.Open(domain, groupType, block.Bytes)
	if errors.Is(err, identity.ErrSignature) {
		return Group{}, ErrGroupAltered
	}
	if err != nil {
		return Group{}, fmt.Errorf("%w: %w", ErrGroupFile, err)
	}
	var g Group
	if err := identity.Unmarshal(envelope.Payload, &g); err != nil {
		return Group{}, fmt.Errorf("%w: %w", ErrGroupFile, err)
	}
	if g.ID != identity.GroupID(envelope.Signer) {
		return Group{}, ErrGroupAltered
	}
	return g, g.validate()
}

// Check reports why a verified list must not be believed: it is not of the group
// wanted, older than known, or expired.
func (g Group) Check(want identity.GroupID, known uint64, now time.Time) error {
	switch {
	case g.ID != want:
		return fmt.Errorf("%w: it is of group %s, the rules name %s", ErrGroupAltered, g.ID, want)
	case g.Sequence < known:
		return fmt.Errorf("%w: number %d, known was %d", ErrGroupOld, g.Sequence, known)
	case now.Unix() > g.NotAfter:
		return fmt.Errorf("%w on %s", ErrGroupExpired, time.Unix(g.NotAfter, 0).UTC().Format(time.DateOnly))
	}
	return nil
}

// With returns the list with members added and others removed. The sequence is the
// caller's to raise.
func (g Group) With(add, remove []Who) (Group, error) {
	g.Nodes, g.Accounts = slices.Clone(g.Nodes), slices.Clone(g.Accounts)
	var errs []error
	for _, w := range slices.Concat(add, remove) {
		if w.Kind != OneNode && w.Kind != OneAccount {
			errs = append(errs, fmt.Errorf("access: a group lists nodes and accounts, not %s", w))
		}
	}
	for _, w := range add {
		switch w.Kind {
		case OneNode:
			g.Nodes = append(g.Nodes, w.Node)
		case OneAccount:
			g.Accounts = append(g.Accounts, w.Account)
		case Everybody, OneGroup:
		}
	}
	g.Nodes, g.Accounts = sortedSet(g.Nodes), sortedSet(g.Accounts)
	for _, w := range remove {
		before := len(g.Nodes) + len(g.Accounts)
		g.Nodes = slices.DeleteFunc(g.Nodes, func(n identity.NodeID) bool { return w.Kind == OneNode && n == w.Node })
		g.Accounts = slices.DeleteFunc(g.Accounts, func(a identity.AccountID) bool { return w.Kind == OneAccount && a == w.Account })
		if len(g.Nodes)+len(g.Accounts) == before {
			errs = append(errs, fmt.Errorf("access: %s is not in the group", w))
		}
	}
	errs = append(errs, g.validate())
	return g, errors.Join(errs...)
}

func sortedSet[T id](list []T) []T {
	slices.SortFunc(list, compareID)
	return slices.Compact(list)
}

// Members returns the members as texts.
func (g Group) Members() []string {
	out := make([]string, 0, len(g.Nodes)+len(g.Accounts))
	for _, n := range g.Nodes {
		out = append(out, Who{Kind: OneNode, Node: n}.String())
	}
	for _, a := range g.Accounts {
		out = append(out, Who{Kind: OneAccount, Account: a}.String())
	}
	return out
}

// lists reports whether the sorted lists hold the caller.
func (g Group) lists(c Caller) bool {
	if _, ok := slices.BinarySearchFunc(g.Nodes, c.Node, compareID); ok && !c.Node.IsZero() {
		return true
	}
	_, ok := slices.BinarySearchFunc(g.Accounts, c.Account, compareID)
	return ok && !c.Account.IsZero()
}

// Membership is what is known of a group that rules name: its list, or why it
// cannot be believed.
type Membership struct {
	Group Group
	// Fault says why the list must not be believed; nil if it may.
	Fault error
}

// fault is Fault, or that the list has expired by now.
func (m Membership) fault(now time.Time) error {
	if m.Fault != nil {
		return m.Fault
	}
	return m.Group.Check(m.Group.ID, 0, now)
}

// Roster are the groups by their local names.
type Roster map[string]Membership

func (r Roster) get(name string, now time.Time) (Group, error) {
	m, ok := r[name]
	if !ok {
		return Group{}, ErrGroupMissing
	}
	return m.Group, m.fault(now)
}

// NextExpiry returns when the next list that is believed now expires; zero if none
// does.
func (r Roster) NextExpiry(now time.Time) time.Time {
	var next int64
	for _, m := range r {
		if m.fault(now) == nil && (next == 0 || cmp.Less(m.Group.NotAfter, next)) {
			next = m.Group.NotAfter
		}
	}
	if next == 0 {
		return time.Time{}
	}
	return time.Unix(next+1, 0)
}
