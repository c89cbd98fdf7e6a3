package access

import (
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Caller is who wants to open a session.
type Caller struct {
	Node identity.NodeID
	// Account is the one the node has proved to speak for; zero if it shows none.
	Account identity.AccountID
}

// Request is a session that somebody wants to open at a service.
type Request struct {
	Caller   Caller
	Port     uint16
	Protocol record.Protocol
}

// Default is the Rule of a decision that no rule made.
const Default = -1

// Decision is what the rules say of a request.
type Decision struct {
	Action Action
	// Rule is the index of the rule that decided, or Default.
	Rule int
	// Reason is a sentence.
	Reason string
	// Steps say of each rule, in order, whether it matched and why.
	Steps []Step
}

// Step is one rule looked at.
type Step struct {
	Rule    string
	Matched bool
	Why     string
}

// Book holds the rules of every service and the groups they name.
type Book struct {
	// Services are the rules by the services' names.
	Services map[string]Rules
	// Roster are the groups that rules may name.
	Roster Roster
}

// Decide decides a request to a service; the index is that of the rule which
// decided, or Default. It allocates nothing.
func (b *Book) Decide(service string, q Request, now time.Time) (Action, int) {
	first, at := Deny, Default
	rules := b.Services[service]
	for i := range rules {
		r := &rules[i]
		if r.Action != Deny && at != Default {
			continue
		}
		if matched, _ := b.match(r, q, now); !matched {
			continue
		}
		if r.Action == Deny {
			return Deny, i
		}
		first, at = r.Action, i
	}
	return first, at
}

// Explain is Decide with the reason in words.
func (b *Book) Explain(service string, q Request, now time.Time) Decision {
	var d Decision
	d.Action, d.Rule = b.Decide(service, q, now)
	rules, known := b.Services[service]
	for i := range rules {
		matched, why := b.match(&rules[i], q, now)
		d.Steps = append(d.Steps, Step{Rule: rules[i].String(), Matched: matched, Why: why.text(b, &rules[i], q, now)})
	}
	switch {
	case d.Rule != Default:
		d.Reason = fmt.Sprintf("rule %d (%s): %s", d.Rule+1, rules[d.Rule].String(), d.Steps[d.Rule].Why)
		if d.Action == Deny && slices.ContainsFunc(rules, func(r Rule) bool { return r.Action != Deny }) {
			d.Reason += "; deny wins over allow"
		}
	case !known || len(rules) == 0:
		d.Reason = "no rules for this service: nobody may (default deny)"
	default:
		d.Reason = "no rule matches (default deny)"
	}
	return d
}

// reason is why a rule matches or does not.
type reason uint8

const (
	isEverybody reason = iota
	isNode
	isAccount
	isMember
	groupDoubted
	accountHidden
	otherPort
	otherNode
	otherAccount
	noAccount
	notMember
	groupUnusable
)

// match reports whether a rule is for a request.
func (b *Book) match(r *Rule, q Request, now time.Time) (bool, reason) {
	if len(r.Scopes) > 0 {
		want, covered := Scope{Protocol: q.Protocol, From: q.Port, To: q.Port}, false
		for _, s := range r.Scopes {
			covered = covered || s.covers(want)
		}
		if !covered {
			return false, otherPort
		}
	}
	switch r.Who.Kind {
	case Everybody:
		return true, isEverybody
	case OneNode:
		if r.Who.Node == q.Caller.Node {
			return true, isNode
		}
		return false, otherNode
	case OneAccount:
		switch {
		case r.Who.Account == q.Caller.Account:
			return true, isAccount
		case q.Caller.Account.IsZero():
			return r.Action == Deny, hidden(r, noAccount)
		}
		return false, otherAccount
	case OneGroup:
		group, err := b.Roster.get(r.Who.Group, now)
		switch {
		case err != nil && r.Action == Deny:
			return true, groupDoubted
		case err != nil:
			return false, groupUnusable
		case group.lists(q.Caller):
			return true, isMember
		case len(group.Accounts) > 0 && q.Caller.Account.IsZero():
			return r.Action == Deny, hidden(r, notMember)
		}
		return false, notMember
	}
	return false, otherNode
}

// hidden is why a rule about accounts treats a caller as it does who shows none.
func hidden(r *Rule, otherwise reason) reason {
	if r.Action == Deny {
		return accountHidden
	}
	return otherwise
}

func (why reason) text(b *Book, r *Rule, q Request, now time.Time) string {
	switch why {
	case isEverybody:
		return "it is for everybody"
	case isNode:
		return "it names this node"
	case isAccount:
		return "the node has proved that it speaks for this account"
	case isMember:
		return "group " + r.Who.Group + " lists it"
	case groupDoubted:
		_, err := b.Roster.get(r.Who.Group, now)
		return fmt.Sprintf("whom group %s lists cannot be told, so everybody is denied (%v)", r.Who.Group, err)
	case groupUnusable:
		_, err := b.Roster.get(r.Who.Group, now)
		return fmt.Sprintf("group %s lets nobody in (%v)", r.Who.Group, err)
	case accountHidden:
		return "the node shows no account, which must not get it past a deny rule"
	case otherPort:
		return fmt.Sprintf("it is not for port %d/%s", q.Port, q.Protocol)
	case otherNode:
		return "it names another node"
	case otherAccount:
		return "the node speaks for another account"
	case noAccount:
		return "the node shows no account"
	case notMember:
		return "group " + r.Who.Group + " does not list it"
	}
	return ""
}
