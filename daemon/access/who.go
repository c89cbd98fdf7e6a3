package access

import (
	"errors"
	"fmt"
	"strings"

	"scn.alt/scn/routing/identity"
)

// Kind says what a Who names.
type Kind uint8

// The kinds of Who.
const (
	// Everybody is any node of the network.
	Everybody Kind = iota + 1
	// OneNode is one node.
	OneNode
	// OneAccount is every node that shows an account.
	OneAccount
	// OneGroup is every node and account of a signed list.
	OneGroup
)

// Who is whom a rule is about. It is comparable.
type Who struct {
	Kind    Kind
	Node    identity.NodeID
	Account identity.AccountID
	Group   string
}

// The words and prefixes of the text form.
const (
	wordAll       = "all"
	prefixNode    = "node:"
	prefixAccount = "account:"
	prefixGroup   = "group:"
)

// MaxGroupName is the longest local name of a group in characters.
const MaxGroupName = 32

// ErrWho is returned for a text that names nobody.
var ErrWho = errors.New("access: not all, a node ID, account:ID or group:NAME")

// ParseWho reads "all", "group:NAME", or the ID of a node or account, with or
// without "node:" or "account:" before it.
func ParseWho(text string) (Who, error) {
	switch {
	case text == wordAll:
		return Who{Kind: Everybody}, nil
	case strings.HasPrefix(text, prefixGroup):
		name := strings.TrimPrefix(text, prefixGroup)
		if err := CheckGroupName(name); err != nil {
			return Who{}, err
		}
		return Who{Kind: OneGroup, Group: name}, nil
	case strings.HasPrefix(text, prefixAccount):
		id, err := identity.ParseAccountID(strings.TrimPrefix(text, prefixAccount))
		return Who{Kind: OneAccount, Account: id}, err
	case strings.HasPrefix(text, prefixNode):
		id, err := identity.ParseNodeID(strings.TrimPrefix(text, prefixNode))
		return Who{Kind: OneNode, Node: id}, err
	case len(text) != identity.TextSize && !identity.LooksLikeID(text):
		return Who{}, fmt.Errorf("%q: %w", clip(text), ErrWho)
	}
	node, err := identity.ParseNodeID(text)
	if err == nil {
		return Who{Kind: OneNode, Node: node}, nil
	}
	if account, err := identity.ParseAccountID(text); err == nil {
		return Who{Kind: OneAccount, Account: account}, nil
	}
	return Who{}, err
}

// String returns the one text form.
func (w Who) String() string {
	switch w.Kind {
	case Everybody:
		return wordAll
	case OneNode:
		return prefixNode + w.Node.String()
	case OneAccount:
		return prefixAccount + w.Account.String()
	case OneGroup:
		return prefixGroup + w.Group
	}
	return "nobody"
}

// CheckGroupName reports what is wrong with the local name of a group: 1 to
// MaxGroupName of a-z, 0-9 and "-", a letter first.
func CheckGroupName(name string) error {
	if name == "" || len(name) > MaxGroupName || name[0] < 'a' || name[0] > 'z' {
		return fmt.Errorf("access: group name %q: 1 to %d characters, a letter first", clip(name), MaxGroupName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("access: group name %q: a-z, 0-9 and \"-\" only", name)
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
