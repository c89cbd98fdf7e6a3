package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/conformance/reach"
	"scn.alt/scn/daemon/control"
)

const (
	// part is how much of the film each comparison fetches.
	part = 24 << 20
	// rounds is how often paid and free are compared at most; once is enough where
	// this machine has nothing else to do.
	rounds = 4
	// most is how much slower a paid download may be.
	most = 0.03
)

// compare downloads a part of the film, paid and free in turn, over a line that
// either fills. The best of each counts: what else this machine does slows both.
func (s *stage) compare(ctx context.Context) error {
	best := map[string]time.Duration{}
	for round := range rounds {
		order := []string{"films.top", "gifts.top"}
		if round%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		for _, name := range order {
			took, err := s.fetch(ctx, s.client, name, part)
			if err != nil {
				return err
			}
			if b, ok := best[name]; !ok || took < b {
				best[name] = took
			}
		}
		if round > 0 && loss(best) <= most {
			break
		}
	}
	rate := func(name string) float64 { return part * 8 / 1e6 / best[name].Seconds() }
	s.say("client: paid %.1f Mbit/s, free %.1f Mbit/s: %+.1f %%", rate("films.top"), rate("gifts.top"), -100*loss(best))
	s.must(loss(best) <= most, "paying costs %.1f %% of the throughput", 100*loss(best))
	return nil
}

func loss(best map[string]time.Duration) float64 {
	return 1 - best["gifts.top"].Seconds()/best["films.top"].Seconds()
}

// fetch downloads so many bytes and returns how long it took.
func (s *stage) fetch(ctx context.Context, a *reach.Actor, name string, bytes int64) (time.Duration, error) {
	n, took, err := get(ctx, a, name, bytes)
	if err == nil && n != bytes {
		err = fmt.Errorf("%s: %d bytes of %d", name, n, bytes)
	}
	return took, err
}

// get reads up to so many bytes of the film; what came before an error counts.
func get(ctx context.Context, a *reach.Actor, name string, bytes int64) (int64, time.Duration, error) {
	address, err := a.Resolve(ctx, "ip4", name)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address.String()+"/"+fileName, nil)
	if err != nil {
		return 0, 0, err
	}
	client := a.Host.HTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, time.Since(begun), err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, bytes))
	_ = resp.Body.Close()
	return n, time.Since(begun), err
}

// choose adds a second provider, cheaper and farther away, and looks whom each client
// takes.
func (s *stage) choose(ctx context.Context) error {
	status, err := s.discount.Status(ctx)
	if err != nil {
		return err
	}
	s.say("provider: scn service grant films %s; the grantee: scn serve films …; scn price films --per-gib %s", status.NodeID.Short(), cheaper)
	if _, err := s.provider.Run(ctx, "service", "grant", "films", s.discount.ID); err != nil {
		return err
	}
	var grant control.Price
	if err := s.provider.Read(ctx, &grant, "price", "films", "--for", s.discount.ID, "--account", status.AccountID.String(), "--json"); err != nil {
		return err
	}
	if err := s.discount.Serve(ctx, "films", "80=tcp://127.0.0.1:8080"); err != nil {
		return err
	}
	if _, err := s.discount.Run(ctx, "price", "films", "--per-gib", cheaper, "--grant", grant.Grant); err != nil {
		return err
	}
	for _, a := range []struct {
		client *reach.Actor
		want   *reach.Actor
		policy string
	}{{s.client, s.provider, "fastest"}, {s.miser, s.discount, "cheapest"}} {
		var m control.Market
		err := await(ctx, "both providers are known to "+a.client.Host.Name(), 30*time.Second, func() (bool, error) {
			if err := a.client.Read(ctx, &m, "market", "films", "--json"); err != nil {
				return false, err
			}
			priced := 0
			for _, o := range m.Offers {
				if o.Now != nil && o.RTTMS != nil {
					priced++
				}
			}
			return priced == 2, nil
		})
		if err != nil {
			return err
		}
		text, err := a.client.Run(ctx, "market", "films")
		if err != nil {
			return err
		}
		fmt.Printf("\n%s (%s): scn market films\n%s\n", a.client.Host.Name(), a.policy, text)
		for _, o := range m.Offers {
			s.must(o.First == (o.NodeID.String() == a.want.ID), "%s would take %s first", a.policy, o.NodeID.Short())
		}
		if _, _, err := get(ctx, a.client, "films.top", 1<<20); err != nil {
			return err
		}
		list, err := channels(ctx, a.client, true)
		if err != nil {
			return err
		}
		used := false
		for _, c := range list {
			used = used || c.State == "open" && c.NodeID.String() == a.want.ID && c.Promised > 0
		}
		s.must(used, "%s did not use %s", a.policy, a.want.Host.Name())
	}
	return nil
}

// stopPaying lets the miser download until its budget ends: the provider stops, and
// what it delivered unpaid is at most one window.
func (s *stage) stopPaying(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	got, took, err := get(limited, s.miser, "films.top", 1<<40)
	list, listErr := channels(ctx, s.miser, true)
	if listErr != nil {
		return listErr
	}
	var paid uint64
	var spent voucher.Amount
	for _, c := range list {
		paid += c.Bytes
		spent += c.Promised
	}
	// What the provider delivered, by its own count: at most one window more than paid.
	var delivered uint64
	for _, a := range []*reach.Actor{s.provider, s.discount} {
		var v control.Statement
		if err := a.Read(ctx, &v, "ledger", "statement", "--since", "1h", "--json"); err != nil {
			return err
		}
		for _, l := range v.Lines {
			for _, c := range list {
				if l.Channel == c.ID {
					delivered += l.Sent + l.Received
				}
			}
		}
	}
	allowed, _ := voucher.ParseAmount(budget)
	window := max(64<<10, min(16<<20, paid))
	s.say("miser: budget of %s: %s in %.1f s, then: %v", budget, megabytes(got), took.Seconds(), err)
	s.say("  paid for %s with %s; delivered %s by the providers' count; the window is at most %s", megabytes(paid), spent, megabytes(delivered), megabytes(window))
	s.must(err != nil, "the miser's download did not end")
	s.must(spent <= allowed, "%s were spent of a budget of %s", spent, allowed)
	s.must(uint64(max(0, got)) <= paid+window, "%s arrived, more than one window beyond what was paid", megabytes(got))
	s.must(delivered > 0 && delivered <= paid+window, "%s were delivered, more than one window beyond what was paid", megabytes(delivered))
	status, err := s.miser.Run(ctx, "status")
	if err != nil {
		return err
	}
	reason := ""
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "not paid") || strings.HasPrefix(line, "paid today") {
			fmt.Print("         scn status: " + line)
		}
		if strings.HasPrefix(line, "not paid") {
			reason = line
		}
	}
	s.must(strings.Contains(reason, "budget"), "scn status does not say why")
	return nil
}

// leave stops the provider right after a download, and looks whether it settled first.
func (s *stage) leave(ctx context.Context) error {
	if _, err := s.fetch(ctx, s.client, "films.top", part/8); err != nil {
		return err
	}
	// The last voucher is on its way; nothing is promised beyond it.
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	list, err := channels(ctx, s.client, true)
	if err != nil {
		return err
	}
	var promised voucher.Amount
	for _, c := range list {
		if c.NodeID.String() == s.provider.ID {
			promised += c.Promised
		}
	}
	status, err := s.provider.Status(ctx)
	if err != nil {
		return err
	}
	s.provider.Stop()
	got, err := account(ctx, s.world.Founder, status.AccountID.String())
	if err != nil {
		return err
	}
	s.say("the provider stops: it was promised %s in all, and has %s", promised, got.Balance)
	s.must(got.Balance == promised, "the provider left without %s of what it was promised", promised-got.Balance)
	return s.balances(ctx, "at the end")
}
