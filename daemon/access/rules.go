package access

import (
	"errors"
	"fmt"
	"slices"
)

// MaxRules is how many rules one service may have.
const MaxRules = 256

// Rules are the rules of one service, in order.
type Rules []Rule

// ErrContradiction is returned for a rule that another makes pointless.
var ErrContradiction = errors.New("access: rules contradict")

// ParseRules reads a list of rules and reports all faults together, those of
// Validate included.
func ParseRules(texts []string) (Rules, error) {
	out := make(Rules, 0, min(len(texts), MaxRules))
	var errs []error
	for i, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule %d: %w", i+1, err))
			continue
		}
		out = append(out, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, out.Validate()
}

// Validate reports every contradiction: a rule said twice, and an allow or ask rule
// that can never decide, because a deny rule covers all it is for.
func (rs Rules) Validate() error {
	if len(rs) > MaxRules {
		return fmt.Errorf("%w: %d rules, at most %d", ErrRule, len(rs), MaxRules)
	}
	var errs []error
	for i, r := range rs {
		if j := slices.IndexFunc(rs[:i], r.Same); j >= 0 {
			errs = append(errs, fmt.Errorf("%w: rule %d (%s) repeats rule %d", ErrContradiction, i+1, r.bare(), j+1))
			continue
		}
		if r.Action == Deny {
			continue
		}
		j := slices.IndexFunc(rs, func(d Rule) bool { return d.Action == Deny && d.Covers(r) })
		if j >= 0 {
			errs = append(errs, fmt.Errorf("%w: rule %d (%s) can never apply: rule %d (%s) denies all of it, and deny wins",
				ErrContradiction, i+1, r.bare(), j+1, rs[j].bare()))
		}
		if k := slices.IndexFunc(rs[:i], func(o Rule) bool { return o.Action != Deny && o.Action != r.Action && o.Covers(r) }); k >= 0 {
			errs = append(errs, fmt.Errorf("%w: rule %d (%s) can never apply: rule %d (%s) comes first and covers all of it",
				ErrContradiction, i+1, r.bare(), k+1, rs[k].bare()))
		}
	}
	return errors.Join(errs...)
}

// NeedAccount reports whether any rule looks at the caller's account.
func (rs Rules) NeedAccount() bool {
	return slices.ContainsFunc(rs, func(r Rule) bool { return r.Who.Kind == OneAccount || r.Who.Kind == OneGroup })
}

// Texts returns the rules as lines.
func (rs Rules) Texts() []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.String()
	}
	return out
}

// Allowing returns whom the rules allow or ask about, as texts.
func (rs Rules) Allowing() []string {
	out := []string{}
	for _, r := range rs {
		if r.Action == Deny {
			continue
		}
		if text := r.Who.String(); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// AllowOnly returns rules that allow exactly those named, on every port, and keep
// the deny rules there were.
func (rs Rules) AllowOnly(who []Who) Rules {
	out := slices.DeleteFunc(slices.Clone(rs), func(r Rule) bool { return r.Action != Deny })
	for _, w := range who {
		r := Rule{Action: Allow, Who: w}
		if !slices.ContainsFunc(out, r.Same) {
			out = append(out, r)
		}
	}
	return out
}
