package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"scn.alt/scn/cashier"
	"scn.alt/scn/daemon/access"
	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/daemon/verdict"
	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

// Defaults of a provider among its equals (RFC 2782).
const (
	defaultPriority = 0
	defaultWeight   = 100
)

// backend answers the control API from a running daemon.
type backend struct {
	accessBackend
	d *daemon
}

var _ control.Backend = backend{}

// Serve implements control.Backend.
func (b backend) Serve(ctx context.Context, q control.ServeRequest) (control.Service, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Service{}, explain(err)
	}
	if strings.HasPrefix(q.Check, "exec:") && !control.Owner(ctx) {
		return control.Service{}, control.Errorf(control.Refused,
			"a check that runs a command runs it with the daemon's rights: only the daemon's own user, or root, may set one")
	}
	s := node.Service{
		Name: nm, Targets: q.Targets, Allow: q.Allow, ProxyProtocol: q.ProxyProtocol,
		Priority: defaultPriority, Weight: defaultWeight,
		Check: q.Check, CheckInterval: q.CheckInterval, CheckRise: q.CheckRise, CheckFall: q.CheckFall,
	}
	if q.Priority != nil {
		s.Priority = *q.Priority
	}
	if q.Weight != nil {
		s.Weight = *q.Weight
	}
	state, err := b.d.node.Serve(ctx, s)
	return serviceOf(state), explain(err)
}

// Unserve implements control.Backend.
func (b backend) Unserve(ctx context.Context, text string) error {
	nm, err := b.name(text)
	if err != nil {
		return explain(err)
	}
	return explain(b.d.node.Unserve(ctx, nm))
}

// Grant implements control.Backend.
func (b backend) Grant(ctx context.Context, q control.NameRequest) error {
	nm, err := b.name(q.Name)
	if err != nil || q.Node == nil {
		return explain(errors.Join(err, missing(q.Node == nil, "node_id")))
	}
	g := record.Grant{Node: *q.Node, Priority: q.Priority, Weight: defaultWeight}
	if q.Weight != nil {
		g.Weight = *q.Weight
	}
	return explain(b.d.node.Grant(ctx, nm, g))
}

// Revoke implements control.Backend.
func (b backend) Revoke(ctx context.Context, q control.NameRequest) error {
	nm, err := b.name(q.Name)
	if err != nil || q.Node == nil {
		return explain(errors.Join(err, missing(q.Node == nil, "node_id")))
	}
	return explain(b.d.node.Revoke(ctx, nm, *q.Node))
}

// Lookup implements control.Backend.
func (b backend) Lookup(ctx context.Context, text string) (control.Lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := b.d.node.Resolve(ctx, text)
	if err != nil {
		return control.Lookup{}, explain(err)
	}
	out := control.Lookup{Name: string(r.Name), ServiceID: r.Service, Source: r.Source, AgeSeconds: r.Age.Seconds(), Expired: r.Expired}
	if r.Source == string(naming.FromRegistry) {
		if err := b.prove(ctx, r, &out); err != nil {
			return control.Lookup{}, explain(err)
		}
		r.Service = out.ServiceID
	}
	rec, candidates, err := b.d.node.Providers(ctx, r.Service)
	if err != nil {
		return out, explain(err)
	}
	out.Ports = rec.Ports
	scores := b.d.node.KnownScores(r.Service)
	for _, c := range candidates {
		p := control.Provider{
			NodeID: c.Node, Locators: c.Locators, Relays: c.Relays, Priority: c.Priority, Weight: c.Weight,
			Sequence: c.Sequence, Source: string(c.Source),
		}
		if p.Locators == nil {
			p.Locators = []netip.AddrPort{}
		}
		if !c.Expires.IsZero() {
			p.Expires = &c.Expires
		}
		if s, ok := scores[c.Node]; ok {
			score := scoreOf(s)
			p.Score = &score
		}
		out.Providers = append(out.Providers, p)
	}
	if b.d.edge != nil {
		v4, v6, err := b.d.edge.Assign(ctx, r.Service)
		if v4.IsValid() {
			out.IPv4 = &v4
		}
		if v6.IsValid() {
			out.IPv6 = &v6
		}
		if err != nil {
			b.d.log.Warn("no virtual address", "service", r.Service.Short(), "err", err)
		}
	}
	return out, nil
}

// Ping implements control.Backend.
func (b backend) Ping(ctx context.Context, text string) (control.Ping, error) {
	rtt, peer, err := b.d.node.Ping(ctx, text)
	return control.Ping{NodeID: peer, RTTMS: milliseconds(rtt)}, explain(err)
}

// Dial implements control.Backend.
func (b backend) Dial(ctx context.Context, text string, port uint16) (net.Conn, error) {
	c, err := b.d.node.Dial(ctx, text, port)
	if err != nil {
		return nil, explain(err)
	}
	return c, nil
}

// ShowName implements control.Backend.
func (b backend) ShowName(ctx context.Context, text string) (control.Name, error) {
	nm, err := b.name(text)
	if err != nil {
		return control.Name{}, explain(err)
	}
	info, err := b.d.node.NameInfo(ctx, nm)
	return b.nameOf(info), explain(err)
}

// RegisterName implements control.Backend.
func (b backend) RegisterName(ctx context.Context, q control.NameRequest) (control.Name, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Name{}, explain(err)
	}
	term, err := termOf(q.Years)
	if err != nil {
		return control.Name{}, explain(err)
	}
	info, err := b.d.node.RegisterName(ctx, nm, q.Service, term)
	if errors.Is(err, node.ErrPending) {
		info, err = b.d.node.NameInfo(ctx, nm)
	}
	return b.nameOf(info), explain(err)
}

// RenewName implements control.Backend.
func (b backend) RenewName(ctx context.Context, q control.NameRequest) (control.Name, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Name{}, explain(err)
	}
	term, err := termOf(q.Years)
	if err != nil {
		return control.Name{}, explain(err)
	}
	info, err := b.d.node.RenewName(ctx, nm, term)
	return b.nameOf(info), explain(err)
}

// termOf reads a number of years, 0 for the usual term.
func termOf(years int) (time.Duration, error) {
	const most = cashier.MaxTerm / (365 * 24 * 60 * 60)
	if years < 0 || years > most {
		return 0, fmt.Errorf("%w: %d years, want 1 to %d", node.ErrRequest, years, most)
	}
	return time.Duration(years) * 365 * 24 * time.Hour, nil
}

// TransferName implements control.Backend.
func (b backend) TransferName(ctx context.Context, q control.NameRequest) (control.Name, error) {
	nm, err := b.name(q.Name)
	if err != nil || q.Account == nil {
		return control.Name{}, explain(errors.Join(err, missing(q.Account == nil, "account_id")))
	}
	info, err := b.d.node.OfferName(ctx, nm, *q.Account)
	return b.nameOf(info), explain(err)
}

// AcceptName implements control.Backend.
func (b backend) AcceptName(ctx context.Context, q control.NameRequest) (control.Name, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Name{}, explain(err)
	}
	info, err := b.d.node.AcceptName(ctx, nm)
	return b.nameOf(info), explain(err)
}

// ReleaseName implements control.Backend.
func (b backend) ReleaseName(ctx context.Context, q control.NameRequest) error {
	nm, err := b.name(q.Name)
	if err != nil {
		return explain(err)
	}
	return explain(b.d.node.ReleaseName(ctx, nm))
}

// Admit implements control.Backend.
func (b backend) Admit(ctx context.Context, q control.NameRequest) error {
	if q.Node == nil {
		return explain(missing(true, "node_id"))
	}
	return explain(b.d.node.Admit(ctx, *q.Node))
}

// SetParameter implements control.Backend.
func (b backend) SetParameter(ctx context.Context, q control.ParameterRequest) error {
	return explain(b.d.node.SetParameter(ctx, q.Name, q.Value))
}

// Remove implements control.Backend.
func (b backend) Remove(ctx context.Context, q control.NameRequest) error {
	if q.Node == nil {
		return explain(missing(true, "node_id"))
	}
	return explain(b.d.node.Remove(ctx, *q.Node))
}

// name reads a name with or without zone.
func (b accessBackend) name(text string) (name.Name, error) {
	text = strings.TrimSuffix(text, ".")
	for _, zone := range []string{"." + b.zone, ".scn.alt"} {
		text = strings.TrimSuffix(text, zone)
	}
	return name.Parse(text)
}

func (b backend) nameOf(i node.NameInfo) control.Name {
	out := control.Name{
		Name: string(i.Name), Registered: i.Registered, Service: i.Record.Service, Owner: i.Record.Owner,
		Mine: i.Registered && i.Record.Owner == b.d.node.Account(), Sequence: i.Record.Sequence,
		Height: i.Record.Height, Source: i.Source,
	}
	if i.Record.NotAfter != 0 {
		t := time.Unix(i.Record.NotAfter, 0).UTC()
		out.Expires = &t
	}
	out.State = i.Phase.String()
	if i.Registered && i.Record.Lease != 0 {
		t := unix(i.Record.Lease)
		out.Lease = &t
	}
	if i.Pending != nil && !out.Mine {
		p := pendingOf(*i.Pending)
		out.Pending = &p
	}
	return out
}

func pendingOf(p node.PendingName) control.PendingName {
	out := control.PendingName{Name: string(p.Name), Since: p.Since, Fault: p.Fault, Over: p.Over}
	if p.Ready.After(p.Since) {
		out.Ready = &p.Ready
	}
	return out
}

func serviceOf(s node.ServiceState) control.Service {
	out := control.Service{
		Name: string(s.Name), ID: s.ID, Targets: s.Targets, Allow: s.Allow, Priority: s.Priority, Weight: s.Weight,
		Owned: s.Owned, ProxyProtocol: s.ProxyProtocol, State: s.State, Sessions: int(s.Sessions),
		Draining: s.Draining,
	}
	if h := s.Health; h != nil {
		out.Health = &control.Health{Check: s.Check, Healthy: h.Healthy, Checks: h.Tries, Failures: h.Failures}
		if h.Err != nil {
			out.Health.Error = h.Err.Error()
		}
		if h.Tries > 0 {
			out.Health.Since, out.Health.Checked = &h.Since, &h.Checked
		}
	}
	return out
}

// Drain implements control.Backend.
func (b backend) Drain(_ context.Context, q control.DrainRequest) (control.Service, error) {
	nm, err := b.name(q.Name)
	if err != nil {
		return control.Service{}, explain(err)
	}
	state, err := b.d.node.Drain(nm, !q.Off)
	if err == nil && q.End {
		_, err = b.d.node.EndSessions(nm)
	}
	return serviceOf(state), explain(err)
}

func missing(is bool, field string) error {
	if !is {
		return nil
	}
	return fmt.Errorf("%w: %s is missing", node.ErrRequest, field)
}

// explain gives an error the code its command exits with, and what to do about it.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var already *control.Error
	var timeout interface{ Timeout() bool }
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &already):
		return err
	case is(node.ErrRequest, name.ErrInvalid, access.ErrPolicy, access.ErrRule, access.ErrWho, verdict.ErrAnswer, identity.ErrChecksum, identity.ErrLength, identity.ErrAlphabet, identity.ErrKind, record.ErrLimit, cashier.ErrMalformed, cashier.ErrTerm):
		return control.Errorf(control.BadRequest, "%w", err)
	case is(node.ErrNotFound, node.ErrNotServed, cashier.ErrNotRegistered, cashier.ErrNoRecovery, cashier.ErrNotBound):
		return control.Errorf(control.NotFound, "%w", err)
	case is(verdict.ErrUnknown):
		return control.Errorf(control.NotFound, "%w: \"scn verdict list\" shows those there are", err)
	case is(sal.ErrPayment):
		return control.Errorf(control.Refused, "%w", err)
	case is(syscall.ECONNREFUSED):
		return control.Errorf(control.Refused, "%w: the service does not listen on this port (\"scn lookup\" shows its ports)", err)
	case is(syscall.EACCES, fs.ErrPermission):
		return control.Errorf(control.Refused, "%w: ask whoever serves it to allow this node's ID (scn access allow NAME ID); there, \"scn access explain\" tells which rule decided", err)
	case is(node.ErrTaken, node.ErrNotOwned, node.ErrNotFounder, cashier.ErrTaken, cashier.ErrNotOwner, cashier.ErrNotOffered, cashier.ErrNoConsent, cashier.ErrTooManyNames, cashier.ErrExistsElsewhere, syscall.EAGAIN, node.ErrPending, node.ErrNotRecovered,
		cashier.ErrFunds, cashier.ErrLeaseEnded, cashier.ErrWrongKey, cashier.ErrNotRecovery, cashier.ErrRecoveryPending, cashier.ErrNotStaked, cashier.ErrTooManyUnbondings, cashier.ErrNoProof):
		return control.Errorf(control.Refused, "%w", err)
	case is(node.ErrUnknownName, cashier.ErrUnavailable, syscall.EHOSTUNREACH, syscall.ENETUNREACH, os.ErrDeadlineExceeded, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return control.Errorf(control.Unreachable, "%w (\"scn doctor\" looks for the cause)", err)
	}
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
