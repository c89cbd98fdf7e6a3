package access

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"scn.alt/scn/routing/record"
)

// Action is what a rule, or a decision, says.
type Action uint8

// The actions. The zero value is Deny: what was never decided is forbidden.
const (
	// Deny refuses the session.
	Deny Action = iota
	// Allow lets it through.
	Allow
	// Ask holds it until a program or the user has decided.
	Ask
)

var actionNames = [...]string{Deny: "deny", Allow: "allow", Ask: "ask"}

// String returns the action as in a rule.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "deny"
}

// Limits of a rule.
const (
	// MaxScopes is how many port ranges one rule may have.
	MaxScopes = 16
	// MaxNote is the longest note of a rule in bytes.
	MaxNote = 200
	// maxRuleText bounds the text of a rule in bytes.
	maxRuleText = 1 << 10
)

// ErrRule is returned for a text that is no rule.
var ErrRule = errors.New("access: not a rule")

// Scope is a range of ports of one protocol or of both.
type Scope struct {
	// Protocol is 0 for both.
	Protocol record.Protocol
	// From and To are the first and the last port; both 0 for every port.
	From, To uint16
}

// covers reports whether every session that other covers is covered by s.
func (s Scope) covers(other Scope) bool {
	if s.Protocol != 0 && s.Protocol != other.Protocol {
		return false
	}
	return s.To == 0 || other.To != 0 && s.From <= other.From && other.To <= s.To
}

// String returns the scope as in a rule.
func (s Scope) String() string {
	protocol := ""
	if s.Protocol != 0 {
		protocol = s.Protocol.String()
	}
	ports := strconv.Itoa(int(s.From))
	switch {
	case s.To == 0:
		return protocol
	case s.To != s.From:
		ports += "-" + strconv.Itoa(int(s.To))
	}
	if protocol != "" {
		ports += "/" + protocol
	}
	return ports
}

// Rule is one line of a service's rules.
type Rule struct {
	Action Action
	Who    Who
	// Scopes are the ports it is for; none means every port.
	Scopes []Scope
	// Note is for people.
	Note string
}

// ParseRule reads ACTION WHO [PORTS] [# note].
func ParseRule(text string) (Rule, error) {
	if len(text) > maxRuleText {
		return Rule{}, fmt.Errorf("%w: longer than %d bytes", ErrRule, maxRuleText)
	}
	var r Rule
	body, note, _ := strings.Cut(text, "#")
	r.Note = strings.TrimSpace(note)
	if len(r.Note) > MaxNote || !printable(r.Note) {
		return Rule{}, fmt.Errorf("%w: %q: a note has at most %d printable bytes", ErrRule, clip(text), MaxNote)
	}
	words := strings.Fields(body)
	if len(words) < 2 || len(words) > 3 {
		return Rule{}, fmt.Errorf("%w: %q: want \"allow|deny|ask WHO [PORTS]\"", ErrRule, clip(text))
	}
	action := slices.Index(actionNames[:], words[0])
	if action < 0 {
		return Rule{}, fmt.Errorf("%w: %q: begins with %q, not with allow, deny or ask", ErrRule, clip(text), clip(words[0]))
	}
	r.Action = Action(action)
	var err error
	if r.Who, err = ParseWho(words[1]); err != nil {
		return Rule{}, err
	}
	if len(words) == 3 {
		if r.Scopes, err = parseScopes(words[2]); err != nil {
			return Rule{}, err
		}
	}
	return r, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

func parseScopes(text string) ([]Scope, error) {
	parts := strings.Split(text, ",")
	if len(parts) > MaxScopes {
		return nil, fmt.Errorf("%w: %d port ranges, at most %d", ErrRule, len(parts), MaxScopes)
	}
	out := make([]Scope, 0, len(parts))
	for _, part := range parts {
		s, err := parseScope(part)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// parseScope reads 80, 80/tcp, 8000-8100/udp, tcp or udp.
func parseScope(text string) (Scope, error) {
	bad := fmt.Errorf("%w: %q is no port, range or protocol (80, 8000-8100/udp, tcp)", ErrRule, clip(text))
	var s Scope
	ports, protocol, slash := strings.Cut(text, "/")
	if !slash {
		if p, ok := parseProtocol(text); ok {
			return Scope{Protocol: p}, nil
		}
	} else {
		var ok bool
		if s.Protocol, ok = parseProtocol(protocol); !ok {
			return Scope{}, bad
		}
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from == 0 {
		return Scope{}, bad
	}
	if from > to {
		return Scope{}, fmt.Errorf("%w: %q ends before it begins", ErrRule, clip(text))
	}
	s.From, s.To = uint16(from), uint16(to)
	return s, nil
}

func parseProtocol(text string) (record.Protocol, bool) {
	for _, p := range []record.Protocol{record.TCP, record.UDP} {
		if text == p.String() {
			return p, true
		}
	}
	return 0, false
}

// String returns the one text form, which ParseRule reads again.
func (r Rule) String() string {
	text := r.bare()
	if r.Note != "" {
		text += " # " + r.Note
	}
	return text
}

// bare is String without the note.
func (r Rule) bare() string {
	text := r.Action.String() + " " + r.Who.String()
	for i, s := range r.Scopes {
		if i == 0 {
			text += " "
		} else {
			text += ","
		}
		text += s.String()
	}
	return text
}

// Same reports whether two rules say the same, notes aside.
func (r Rule) Same(other Rule) bool { return r.bare() == other.bare() }

// Covers reports whether whatever matches other matches r, whatever groups say.
func (r Rule) Covers(other Rule) bool {
	if r.Who.Kind != Everybody && r.Who != other.Who {
		return false
	}
	if len(r.Scopes) == 0 {
		return true
	}
	narrow := other.Scopes
	if len(narrow) == 0 {
		narrow = []Scope{{}}
	}
	for _, n := range narrow {
		if !slices.ContainsFunc(r.Scopes, func(s Scope) bool { return s.covers(n) }) {
			return false
		}
	}
	return true
}
