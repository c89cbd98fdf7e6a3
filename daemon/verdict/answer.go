package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"scn.alt/scn/daemon/program"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Kind is what an answer says. The zero value decides nothing.
type Kind uint8

// The kinds of answers.
const (
	// Allow lets the session through.
	Allow Kind = iota + 1
	// Deny refuses it.
	Deny
	// Wake lets it through, and wakes the target if that does not answer.
	Wake
	// Pay refuses it and says that payment is asked.
	Pay
	// AskUser leaves it to the user.
	AskUser
)

var kindNames = [...]string{Allow: "allow", Deny: "deny", Wake: "wake", Pay: "pay", AskUser: "ask"}

// String returns the kind as in an answer.
func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "undecided"
}

// ParseKind reads allow, deny, wake, pay or ask.
func ParseKind(text string) (Kind, error) {
	for k, name := range kindNames {
		if k > 0 && name == text {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("%w: verdict %q is none of allow, deny, wake, pay, ask", ErrAnswer, text)
}

// Limits of an answer.
const (
	// MaxAnswer is the largest answer of a program in bytes.
	MaxAnswer = program.MaxOutput
	// MaxCache is the longest an answer is remembered.
	MaxCache = 30 * 24 * time.Hour
	// maxReason bounds a reason in bytes; more is cut.
	maxReason = 200
)

// ErrAnswer is returned for an answer that makes no sense.
var ErrAnswer = errors.New("verdict: not an answer")

// Answer decides a question.
type Answer struct {
	Kind Kind
	// Cache is how long it is good for the same question.
	Cache time.Duration
	// Wake is the command that wakes the target, of a Wake.
	Wake []string
	// Reason is for people.
	Reason string
}

// Key is what an answer is about: equal questions share it.
type Key struct {
	Service  string
	Node     identity.NodeID
	Account  identity.AccountID
	Port     uint16
	Protocol record.Protocol
}

// Question is one session, or several alike, that wait for an answer.
type Question struct {
	Key
	ServiceID identity.ServiceID
	// ID names it to the user; Hold gives it.
	ID string
	// Since and Deadline bound the wait; Hold sets them.
	Since, Deadline time.Time
}

// encode returns what the program reads.
func (q Question) encode() ([]byte, error) {
	v := struct {
		Question  string              `json:"question"`
		Service   string              `json:"service"`
		ServiceID identity.ServiceID  `json:"service_id"`
		NodeID    identity.NodeID     `json:"node_id"`
		AccountID *identity.AccountID `json:"account_id,omitempty"`
		Port      uint16              `json:"port"`
		Protocol  string              `json:"protocol"`
		Deadline  time.Time           `json:"deadline"`
	}{q.ID, q.Service, q.ServiceID, q.Node, nil, q.Port, q.Protocol.String(), q.Deadline.UTC()}
	if !q.Account.IsZero() {
		v.AccountID = &q.Account
	}
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}

// parseAnswer reads what the program wrote. Unknown fields and trailing bytes are
// errors: a mistyped "cahce" must not pass for none.
func parseAnswer(b []byte) (Answer, error) {
	if len(b) > MaxAnswer {
		return Answer{}, fmt.Errorf("%w: more than %d bytes", ErrAnswer, MaxAnswer)
	}
	var v struct {
		Verdict string   `json:"verdict"`
		Cache   string   `json:"cache"`
		Wake    []string `json:"wake"`
		Reason  string   `json:"reason"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Answer{}, fmt.Errorf("%w: more than one object", ErrAnswer)
	}
	kind, err := ParseKind(v.Verdict)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Kind: kind, Wake: v.Wake, Reason: v.Reason[:min(len(v.Reason), maxReason)]}
	if v.Cache != "" {
		if a.Cache, err = time.ParseDuration(v.Cache); err != nil || a.Cache < 0 || a.Cache > MaxCache {
			return Answer{}, fmt.Errorf("%w: cache %q is no time of at most %s", ErrAnswer, v.Cache, MaxCache)
		}
	}
	if (kind == Wake) != (len(a.Wake) > 0 && a.Wake[0] != "") {
		return Answer{}, fmt.Errorf("%w: \"wake\" is the command of the verdict wake, and of no other", ErrAnswer)
	}
	return a, nil
}
