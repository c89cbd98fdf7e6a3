package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/conformance/overlay"
	"scn.alt/scn/conformance/reach"
	"scn.alt/scn/daemon/control"
)

// trail is what a channel said at a moment.
type trail struct {
	at      time.Duration
	channel control.PayChannel
	scene   string
}

// download fetches the film while its provider moves, and prints the vouchers.
func (s *stage) download(ctx context.Context, sum string, size int64) error {
	if err := s.balances(ctx, "before"); err != nil {
		return err
	}
	url := "http://films.top/" + fileName
	s.say("client: curl %s, %s", url, megabytes(size))
	begun := time.Now()
	d, err := overlay.StartDownload(ctx, s.client.Host, url)
	if err != nil {
		return err
	}
	var trails []trail
	moved := false
	for d.Size() < size {
		scene := ""
		if !moved && d.Size() > size/2 {
			moved = true
			s.provider.Move(s.rack2)
			scene = "the provider moves to " + s.provider.Link.Addr4().String()
			s.say("  %s, %s downloaded", scene, megabytes(d.Size()))
		}
		list, err := channels(ctx, s.client, true)
		if err != nil {
			return err
		}
		for _, c := range list {
			trails = append(trails, trail{time.Since(begun), c, scene})
		}
		if time.Since(begun) > time.Minute {
			return fmt.Errorf("%s of %s came in a minute", megabytes(d.Size()), megabytes(size))
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	got, err := d.Wait()
	took := time.Since(begun)
	s.say("  done in %.1f s, %.0f Mbit/s", took.Seconds(), float64(size)*8/1e6/took.Seconds())
	s.trail(trails)
	s.must(err == nil, "curl: %v", err)
	s.must(got == sum, "the file did not arrive as it was sent")
	s.must(moved, "the provider did not move")
	return nil
}

func (s *stage) trail(trails []trail) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\n  AFTER\tVOUCHERS\tBYTES\tPROMISED\tSETTLED\tDEPOSIT\tMEANWHILE")
	for i, t := range trails {
		if t.scene == "" && len(trails) > 12 && i%2 == 1 {
			continue
		}
		c := t.channel
		fmt.Fprintf(w, "  %.1f s\t%d\t%s\t%s\t%s\t%s\t%s\n", t.at.Seconds(), c.Vouchers, megabytes(c.Bytes), c.Promised, c.Settled, c.Deposit, t.scene)
	}
	_ = w.Flush()
	fmt.Println()
}

// holder is who has an account.
type holder struct{ name, id string }

// balances prints what everybody has, and checks the sum.
func (s *stage) balances(ctx context.Context, when string) error {
	if s.holders == nil {
		for _, a := range []*reach.Actor{s.client, s.miser, s.provider, s.discount} {
			status, err := a.Status(ctx)
			if err != nil {
				return err
			}
			s.holders = append(s.holders, holder{a.Host.Name(), status.AccountID.String()})
		}
	}
	holders := slices.Clone(s.holders)
	for _, a := range []*reach.Actor{s.client, s.miser} {
		list, err := channels(ctx, a, true)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, c := range list {
			if id := c.Client.String(); !seen[id] {
				seen[id] = true
				holders = append(holders, holder{a.Host.Name() + "'s account for one provider", id})
			}
		}
	}
	var status control.LedgerStatus
	if err := s.world.Founder.Read(ctx, &status, "ledger", "status", "--json"); err != nil {
		return err
	}
	s.say("balances %s:", when)
	var sum voucher.Amount
	for _, h := range holders {
		v, err := account(ctx, s.world.Founder, h.id)
		if err != nil {
			return err
		}
		sum += v.Balance
		fmt.Printf("         %-38s %s\n", h.name, v.Balance)
	}
	escrow := status.Supply.Circulating - sum - status.Supply.Treasury
	fmt.Printf("         %-38s %s\n         %-38s %s\n", "treasury", status.Supply.Treasury, "deposits of open channels", escrow)
	fmt.Printf("         %-38s %s\n", "sum", status.Supply.Circulating)
	issued, _ := voucher.ParseAmount(purse)
	s.must(status.Supply.Circulating == 2*issued, "the sum of all balances is %s, issued were %s", status.Supply.Circulating, 2*issued)
	return nil
}

// bill waits for the settlement, prints the invoice of both ends, closes the channel,
// and checks that what one paid is what the other got.
func (s *stage) bill(ctx context.Context) error {
	list, err := channels(ctx, s.client, true)
	if err != nil {
		return err
	}
	s.must(len(list) == 1, "%d channels were opened for one download", len(list))
	if len(list) == 0 {
		return errors.New("nothing was paid")
	}
	c := list[0]
	s.say("the channel: %d vouchers, %s, %s promised; waiting for the epoch's settlement", c.Vouchers, megabytes(c.Bytes), c.Promised)
	err = await(ctx, "the provider settles", 30*time.Second, func() (bool, error) {
		earned, err := channels(ctx, s.provider, false)
		return len(earned) == 1 && earned[0].Settled == earned[0].Promised && earned[0].Promised > 0 && earned[0].Promised == c.Promised, err
	})
	s.must(err == nil, "%v", err)
	for _, a := range []*reach.Actor{s.client, s.provider} {
		text, err := a.Run(ctx, "ledger", "statement", "--since", "1h")
		if err != nil {
			return err
		}
		fmt.Printf("\n%s: scn ledger statement\n%s\n", a.Host.Name(), text)
		var v control.Statement
		if err := a.Read(ctx, &v, "ledger", "statement", "--since", "1h", "--json"); err != nil {
			return err
		}
		bills := 0
		for _, l := range v.Lines {
			if l.Direction == "free" {
				continue
			}
			bills++
			// Each end counts the same bytes by itself; headers of the two sides and what
			// was on its way at the end may differ by little.
			s.must(within(l.Used, c.Promised, 1), "%s's usage of %s is not what was promised, %s", a.Host.Name(), l.Used, c.Promised)
			s.must(l.Settled == c.Promised, "%s: settled %s, promised %s", a.Host.Name(), l.Settled, c.Promised)
		}
		s.must(bills == 1, "%s has %d bills", a.Host.Name(), bills)
	}
	s.say("client: scn channel close %s", c.ID.Short())
	if _, err := s.client.Run(ctx, "channel", "close", c.ID.String()); err != nil {
		return err
	}
	issued, _ := voucher.ParseAmount(purse)
	err = await(ctx, "what is left comes back", 60*time.Second, func() (bool, error) {
		v, err := account(ctx, s.client, "")
		return v.Balance == issued-c.Promised, err
	})
	s.must(err == nil, "%v", err)
	provider, err := account(ctx, s.provider, "")
	if err != nil {
		return err
	}
	s.must(provider.Balance == c.Promised, "the provider has %s, the client promised %s", provider.Balance, c.Promised)
	return s.balances(ctx, "after")
}

// within reports whether two amounts differ by at most so many percent.
func within(a, b voucher.Amount, percent voucher.Amount) bool {
	return max(a, b)-min(a, b) <= max(a, b)/100*percent
}
