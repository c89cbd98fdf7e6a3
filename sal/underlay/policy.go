package underlay

import (
	"fmt"
	"slices"

	"scn.alt/scn/sal/path"
)

// LinkPolicy says what an interface may be used for. The zero value is PolicyNone.
type LinkPolicy uint8

// The policies. An interface is used before those of a dearer policy, whatever
// their round trips.
const (
	// PolicyNone is an interface nothing was said about: the faster of two is used.
	PolicyNone LinkPolicy = iota
	// PolicyPrefer is used before all others.
	PolicyPrefer
	// PolicyMetered costs by the byte: nothing is sent over it, and its addresses are
	// not told, while a cheaper one works.
	PolicyMetered
	// PolicyBackup is used when nothing else works, and kept proved until then.
	PolicyBackup
	// PolicyOff is never used.
	PolicyOff
)

var policyNames = [...]string{
	PolicyNone: "none", PolicyPrefer: "prefer", PolicyMetered: "metered", PolicyBackup: "backup", PolicyOff: "off",
}

// Costs of links as sal/path has them. What is off is not offered at all.
var policyCosts = [...]uint8{
	PolicyNone: path.CostNone, PolicyPrefer: path.CostPrefer, PolicyMetered: path.CostMetered,
	PolicyBackup: path.CostBackup, PolicyOff: 255,
}

// ParseLinkPolicy reads the name of a policy.
func ParseLinkPolicy(name string) (LinkPolicy, error) {
	i := slices.Index(policyNames[:], name)
	if i < 0 {
		return 0, fmt.Errorf("underlay: %q is none of the policies %v", name, policyNames)
	}
	return LinkPolicy(i), nil
}

// String returns the policy's name.
func (p LinkPolicy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy %d", uint8(p))
}

// cost is what sal/path compares; an unknown policy costs what none does.
func (p LinkPolicy) cost() uint8 {
	if int(p) < len(policyCosts) {
		return policyCosts[p]
	}
	return policyCosts[PolicyNone]
}

// SetLinkPolicy replaces Config.LinkPolicy. Paths over links that are now off are
// left at once, others as sal/path decides.
func (s *Socket) SetLinkPolicy(f func(interfaceName string) LinkPolicy) {
	if f == nil {
		f = noPolicy
	}
	s.policy.Store(&f)
	s.watch.refresh()
}

func (s *Socket) policyOf(name string) LinkPolicy { return (*s.policy.Load())(name) }

func noPolicy(string) LinkPolicy { return PolicyNone }
