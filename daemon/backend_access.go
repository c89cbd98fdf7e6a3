package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// accessBackend answers the calls about rules and groups, with a daemon or without.
type accessBackend struct {
	rules *node.Rulebook
	// zone is stripped from names, scn.alt besides.
	zone string
	// account returns the account a connected peer has proved; nil without a daemon.
	account func(identity.NodeID) (identity.AccountID, bool)
}

var _ control.AccessBackend = accessBackend{}

func (d *daemon) backend() backend {
	return backend{accessBackend{d.node.Rules(), d.node.Network().Zone, d.node.AccountOf}, d}
}

// OfflineAccess answers the calls about rules and groups from the files of a
// directory on which no daemon runs. close gives the directory back.
func OfflineAccess(dir string) (b control.AccessBackend, closer func() error, err error) {
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return nil, nil, err
	}
	lock, err := d.Lock()
	if err != nil {
		return nil, nil, err
	}
	rules, err := node.OpenRulebook(d)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	zone := ""
	if file, _, err := d.Network(); err == nil {
		zone = file.Zone
	}
	return accessBackend{rules: rules, zone: zone}, lock.Close, nil
}

// Rules implements control.AccessBackend.
func (b accessBackend) Rules(context.Context) (control.Rules, error) {
	out := control.Rules{Services: []control.ServiceRules{}, Groups: []control.Group{}}
	policy := b.rules.Policy()
	for nm, rules := range policy.Services {
		out.Services = append(out.Services, control.ServiceRules{Name: nm, Rules: rules.Texts()})
	}
	slices.SortFunc(out.Services, func(x, y control.ServiceRules) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	for _, g := range b.rules.Groups() {
		out.Groups = append(out.Groups, groupOf(g))
	}
	return out, nil
}

func groupOf(g node.GroupInfo) control.Group {
	out := control.Group{
		Name: g.Name, ID: g.ID, Sequence: g.Sequence, Expires: time.Unix(g.NotAfter, 0).UTC(), Members: g.Members(), Mine: g.Mine,
	}
	if g.Fault != nil {
		out.Fault = g.Fault.Error()
	}
	return out
}

// ChangeRules implements control.AccessBackend.
func (b accessBackend) ChangeRules(_ context.Context, q control.RulesRequest) (control.ServiceRules, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.ServiceRules{}, explain(err)
	}
	if q.Forget {
		return control.ServiceRules{Name: string(nm), Rules: []string{}}, explain(b.rules.ForgetRules(nm))
	}
	rules, err := b.rules.SetRules(nm, func(rs access.Rules) (access.Rules, error) { return editRules(rs, q) })
	return control.ServiceRules{Name: string(nm), Rules: rules.Texts()}, explain(err)
}

// editRules reports all faults of a request together.
func editRules(rs access.Rules, q control.RulesRequest) (access.Rules, error) {
	var errs []error
	parse := func(texts []string) access.Rules {
		var out access.Rules
		for _, text := range texts {
			r, err := access.ParseRule(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%q: %w", text, err))
				continue
			}
			out = append(out, r)
		}
		return out
	}
	if q.Set != nil {
		rs = parse(q.Set)
	}
	for _, r := range parse(q.Remove) {
		i := slices.IndexFunc(rs, r.Same)
		if i < 0 {
			errs = append(errs, fmt.Errorf("there is no rule %q: \"scn access show %s\" lists them", r, q.Name))
			continue
		}
		rs = slices.Delete(rs, i, i+1)
	}
	for _, r := range parse(q.Add) {
		// Denying somebody by name is often urgent: what allowed just them, and is dead
		// from now on, goes.
		if r.Action == access.Deny && r.Who.Kind != access.Everybody {
			rs = slices.DeleteFunc(rs, func(o access.Rule) bool { return o.Action != access.Deny && o.Who == r.Who && r.Covers(o) })
		}
		rs = append(rs, r)
	}
	return rs, errors.Join(errs...)
}

// Explain implements control.AccessBackend.
func (b accessBackend) Explain(_ context.Context, q control.ExplainRequest) (control.Explanation, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Explanation{}, explain(err)
	}
	protocol, err := protocolOf(q.Protocol)
	if err != nil {
		return control.Explanation{}, explain(err)
	}
	out := control.Explanation{Name: string(nm)}
	caller, err := b.caller(q, &out)
	if err != nil {
		return out, explain(err)
	}
	list, err := b.rules.Explain(nm, caller, q.Port, protocol)
	if err != nil {
		return out, explain(err)
	}
	for _, e := range list {
		p := control.ExplainedPort{
			Port: e.Port, Protocol: e.Protocol.String(), Verdict: e.Action.String(), Rule: e.Rule + 1, Reason: e.Reason,
			Steps: []control.ExplainStep{},
		}
		for _, s := range e.Steps {
			p.Steps = append(p.Steps, control.ExplainStep(s))
		}
		out.Ports = append(out.Ports, p)
	}
	return out, nil
}

func protocolOf(text string) (record.Protocol, error) {
	switch text {
	case "":
		return 0, nil
	case record.TCP.String():
		return record.TCP, nil
	case record.UDP.String():
		return record.UDP, nil
	}
	return 0, fmt.Errorf("%w: protocol %q is neither tcp nor udp", node.ErrRequest, text)
}

// caller finds out who is asked about, and notes what it cannot know.
func (b accessBackend) caller(q control.ExplainRequest, out *control.Explanation) (access.Caller, error) {
	var c access.Caller
	who, err := access.ParseWho(q.Who)
	if err != nil {
		return c, err
	}
	switch who.Kind {
	case access.OneNode:
		c.Node, out.NodeID = who.Node, &who.Node
	case access.OneAccount:
		c.Account, out.AccountID = who.Account, &who.Account
		out.Note = "of a node that is not named: rules about nodes do not match"
	case access.Everybody, access.OneGroup:
		return c, fmt.Errorf("%w: WHO is the ID of a node or an account, not %s", node.ErrRequest, q.Who)
	}
	if q.Account != "" {
		a, err := access.ParseWho(q.Account)
		if err != nil || a.Kind != access.OneAccount {
			return c, errors.Join(fmt.Errorf("%w: %q is no account", node.ErrRequest, q.Account), err)
		}
		c.Account, out.AccountID = a.Account, &a.Account
		return c, nil
	}
	if who.Kind == access.OneNode {
		if b.account != nil {
			if a, ok := b.account(c.Node); ok {
				c.Account, out.AccountID = a, &a
				return c, nil
			}
		}
		out.Note = "the node is not connected, so its account is not known here: --account names it"
	}
	return c, nil
}

// ChangeGroup implements control.AccessBackend.
func (b accessBackend) ChangeGroup(_ context.Context, q control.GroupRequest) (control.Group, error) {
	add, err1 := parseWhos(q.Add)
	remove, err2 := parseWhos(q.Remove)
	if err := errors.Join(err1, err2); err != nil {
		return control.Group{}, explain(fmt.Errorf("%w: %w", node.ErrRequest, err))
	}
	life := time.Duration(q.ValidSeconds) * time.Second
	var g node.GroupInfo
	var err error
	switch q.Do {
	case control.GroupCreate:
		g, err = b.rules.CreateGroup(q.Name, add, life)
	case control.GroupChange:
		g, err = b.rules.ChangeGroup(q.Name, add, remove, life)
	case control.GroupImport:
		var want identity.GroupID
		if q.ID != nil {
			want = *q.ID
		}
		g, err = b.rules.ImportGroup(q.Name, q.List, want)
	case control.GroupForget:
		g.Name, err = q.Name, b.rules.ForgetGroup(q.Name)
	default:
		err = fmt.Errorf("%w: do %q: want create, change, import or forget", node.ErrRequest, q.Do)
	}
	if err != nil {
		return control.Group{}, explain(err)
	}
	return groupOf(g), nil
}

func parseWhos(texts []string) ([]access.Who, error) {
	out := make([]access.Who, 0, len(texts))
	errs := make([]error, 0, len(texts))
	for _, text := range texts {
		w, err := access.ParseWho(text)
		errs = append(errs, err)
		out = append(out, w)
	}
	return out, errors.Join(errs...)
}

// ExportGroup implements control.AccessBackend.
func (b accessBackend) ExportGroup(_ context.Context, nm string) (control.GroupFile, error) {
	list, err := b.rules.ExportGroup(nm)
	return control.GroupFile{List: list}, explain(err)
}

// Explain implements control.Backend: the daemon also knows what else keeps a session
// from being opened.
func (b backend) Explain(ctx context.Context, q control.ExplainRequest) (control.Explanation, error) {
	out, err := b.accessBackend.Explain(ctx, q)
	if err != nil {
		return out, err
	}
	note := "this node does not serve it"
	for _, s := range b.d.node.Services() {
		if string(s.Name) != out.Name {
			continue
		}
		note = ""
		switch {
		case s.Draining:
			note = "the service is draining: whoever may is told so, and turned away"
		case s.Health != nil && !s.Health.Healthy:
			note = fmt.Sprintf("the service's targets fail (%v): whoever may is turned away", s.Health.Err)
		}
	}
	if out.Note != "" && note != "" {
		note = "; " + note
	}
	out.Note += note
	return out, nil
}
