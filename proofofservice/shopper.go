package proofofservice

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/proofofservice/evidence"
)

// ShopperConfig configures a Shopper. The zero value is valid.
type ShopperConfig struct {
	// Port is asked for at services of which no content is known. Default 80.
	Port uint16
	// Timeout is how long a provider may take to open a session or to answer. Default
	// 20 s: a session that moves needs seconds, a user waits no longer. 10 ms to 1 m.
	Timeout time.Duration
	// Hold is how long a mobility probe stays, and Interval how often it asks. Default
	// 5 s and 100 ms; Hold is at most 1 m.
	Hold, Interval time.Duration
	// ControlTimeout is how long known-good nodes may take to answer. Default 10 s, at
	// most 25 s, so that what they say comes within 30 s after the failure.
	ControlTimeout time.Duration
	// Clock tells the time. Default time.Now.
	Clock func() time.Time
}

func (c ShopperConfig) withDefaults() ShopperConfig {
	if c.Port == 0 {
		c.Port = 80
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	if c.Hold == 0 {
		c.Hold = 5 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = 100 * time.Millisecond
	}
	if c.ControlTimeout == 0 {
		c.ControlTimeout = 10 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// Validate reports every fault of the configuration.
func (c ShopperConfig) Validate() error {
	d := c.withDefaults()
	var errs []error
	for _, b := range []struct {
		name           string
		v, least, most time.Duration
	}{
		{"timeout", d.Timeout, 10 * time.Millisecond, time.Minute},
		{"hold", d.Hold, time.Millisecond, time.Minute},
		{"interval", d.Interval, time.Millisecond, d.Hold},
		{"control timeout", d.ControlTimeout, time.Millisecond, 25 * time.Second},
	} {
		if b.v < b.least || b.v > b.most {
			errs = append(errs, fmt.Errorf("proofofservice: %s of %s is outside %s to %s", b.name, b.v, b.least, b.most))
		}
	}
	return errors.Join(errs...)
}

// Shopper makes visits. It is safe for concurrent use.
type Shopper struct {
	dialer  Dialer
	catalog Catalog
	anchors Anchors
	cfg     ShopperConfig
}

// NewShopper returns a shopper.
func NewShopper(dialer Dialer, catalog Catalog, anchors Anchors, cfg ShopperConfig) (*Shopper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Shopper{dialer, catalog, anchors, cfg.withDefaults()}, nil
}

// Visit makes a visit and returns what it saw. It is cut when ctx is done. A visit
// that failed has asked the anchors as well.
func (s *Shopper) Visit(ctx context.Context, v Visit) Sighting {
	ctx, cancel := context.WithDeadline(ctx, v.Until)
	defer cancel()
	seen := s.visit(ctx, v)
	if seen.Verdict == evidence.Broken && v.Provider.Class == evidence.Mobile && ctx.Err() == nil {
		seen = s.again(ctx, v, seen)
	}
	if seen.Reason == evidence.NoReason && seen.Verdict.Failed() {
		seen.Control = s.control(ctx)
		seen.ControlAt = s.cfg.Clock()
	}
	return seen
}

// again asks a mobile provider once more whose session died. If it is there, only
// the silence counts.
func (s *Shopper) again(ctx context.Context, v Visit, broken Sighting) Sighting {
	began := broken.End
	v.Nonce = v.Second
	second := s.visit(ctx, v)
	second.Again = true
	if second.Verdict != evidence.Pass {
		return broken
	}
	second.Start = broken.Start
	second.Bytes += broken.Bytes
	if v.Planned.Kind == evidence.Mobility {
		second.Gap = max(second.Gap, s.cfg.Clock().Sub(began))
	}
	return second
}

func (s *Shopper) visit(ctx context.Context, v Visit) (seen Sighting) {
	seen = Sighting{Verdict: evidence.Absent, Start: s.cfg.Clock()}
	defer func() { seen.End = s.cfg.Clock() }()
	content, known, err := s.catalog.Content(ctx, v.Provider.Service)
	if err != nil {
		return Sighting{Verdict: evidence.Void, Reason: evidence.Internal, Start: seen.Start}
	}
	target := Target{
		Service: v.Provider.Service, Node: v.Provider.Node, Port: s.cfg.Port, Nonce: v.Nonce,
		Account: v.Planned.Account, Carrier: v.Planned.Carrier,
	}
	if known {
		target.Port = content.Port
	}
	seen.Start = s.cfg.Clock() // what it took to learn what to ask for is not the provider's
	dialling, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	session, err := s.dialer.Dial(dialling, target)
	if err != nil {
		if reason := troubleOf(err); reason != evidence.NoReason {
			return Sighting{Verdict: evidence.Void, Reason: reason, Start: seen.Start}
		}
		return seen
	}
	defer session.Close()
	seen.Latency = max(s.cfg.Clock().Sub(seen.Start), time.Microsecond)
	l := &look{
		session: session, reader: bufio.NewReader(session), row: v.Planned, hold: s.cfg.Hold, interval: s.cfg.Interval, now: s.cfg.Clock, seen: seen,
	}
	if known {
		l.content = &content
	}
	return s.look(ctx, v, l)
}

// look looks at an open session, ends it, and takes the receipt.
func (s *Shopper) look(ctx context.Context, v Visit, l *look) Sighting {
	limit := s.cfg.Timeout + s.cfg.Hold
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.session.SetDeadline(time.Unix(1, 0)) })
	err := kinds[v.Planned.Kind](l, ctx)
	stop()
	seen := l.seen
	seen.Verdict = evidence.Pass
	switch {
	case err == nil:
	case troubleOf(err) != evidence.NoReason:
		seen.Verdict, seen.Reason = evidence.Void, troubleOf(err)
		return seen
	case errors.Is(err, errWrong) && v.Planned.Kind == evidence.Correctness:
		seen.Verdict = evidence.Wrong
	default:
		seen.Verdict = evidence.Broken
	}
	bill := l.session.Bill()
	// The receipt has its own time: the visit may have used up all of its.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(s.cfg.Timeout, 5*time.Second))
	defer cancel()
	receipt, err := l.session.Receipt(closing)
	if err == nil && receipt != (voucher.Receipt{}) {
		seen.Receipt = &receipt
	}
	switch {
	case seen.Receipt == nil && seen.Verdict != evidence.Absent:
		seen.Verdict = evidence.Broken // nobody can be shown that it served
	case seen.Verdict == evidence.Pass && v.Planned.Kind == evidence.Price && !bill.Honoured():
		seen.Verdict = evidence.Overcharged
	}
	return seen
}

// control asks known-good nodes, one after the other, whether they answer.
func (s *Shopper) control(ctx context.Context) Control {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ControlTimeout)
	defer cancel()
	for _, node := range s.anchors.Nodes() {
		one, cancel := context.WithTimeout(ctx, s.cfg.ControlTimeout/2)
		err := s.anchors.Reach(one, node)
		cancel()
		if err == nil {
			return Worked
		}
	}
	return Silent
}
