package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon/control"
)

// drainPoll is how often the sessions that are left are counted.
const drainPoll = 250 * time.Millisecond

func (a *app) drainCommand() *cobra.Command {
	var timeout time.Duration
	var unserve, end bool
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "take no new sessions, and wait until the open ones have ended",
		Long: `drain makes this node take no new sessions of a service: clients turn to its next
provider. Open sessions go on, and drain waits for them, telling how many are left. The
service stays drained, over restarts too, until "scn undrain" or "scn serve"; with
--unserve it is not served any more once the last session has ended. After the timeout
sessions that are left stay open, unless --end is given.`,
		Example: example("scn drain files", "scn drain files --timeout 5m --end --unserve"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Drain(cmd.Context(), control.DrainRequest{Name: args[0]})
			if err != nil {
				return err
			}
			left, err := a.awaitDrained(cmd.Context(), c, s, timeout)
			if err == nil && left > 0 && end {
				_, err = c.Drain(cmd.Context(), control.DrainRequest{Name: args[0], End: true})
				left = 0
			}
			if err != nil {
				return err
			}
			if left > 0 && timeout > 0 {
				return control.Errorf(control.Unreachable, "%s: %d sessions are still open; it stays drained: \"scn undrain %s\" takes new ones again, \"scn drain %s --timeout 0 --end\" ends these",
					s.Name, left, s.Name, s.Name)
			}
			if left > 0 {
				return nil
			}
			fmt.Fprintf(a.stdout, "%s: drained\n", s.Name)
			if unserve {
				return c.Unserve(cmd.Context(), s.Name)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for open sessions; 0 does not wait")
	f.BoolVar(&unserve, "unserve", false, "stop serving it once it is drained")
	f.BoolVar(&end, "end", false, "end the sessions that are left after the timeout")
	return cmd
}

func (a *app) undrainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "undrain NAME",
		Short:   "take new sessions again",
		Example: example("scn undrain files"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			_, err = c.Drain(cmd.Context(), control.DrainRequest{Name: args[0], Off: true})
			return err
		},
	}
}

// awaitDrained waits until no session of a service is open, tells how many are, and
// returns how many are left.
func (a *app) awaitDrained(ctx context.Context, c *control.Client, s control.Service, timeout time.Duration) (left int, err error) {
	deadline := time.Now().Add(timeout)
	told := 0
	for s.Sessions > 0 {
		if s.Sessions != told {
			told = s.Sessions
			fmt.Fprintf(a.stdout, "%s: %d open\n", s.Name, told)
		}
		if !time.Now().Before(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return s.Sessions, ctx.Err() // interrupted: it stays drained
		case <-time.After(drainPoll):
		}
		status, err := c.Status(ctx)
		if err != nil {
			return s.Sessions, err
		}
		s.Sessions = 0
		for _, v := range status.Services {
			if v.Name == s.Name {
				s.Sessions = v.Sessions
			}
		}
	}
	return s.Sessions, nil
}

// serviceState is a service's state in a word, or what is missing.
func serviceState(s control.Service) string {
	if s.Draining {
		if s.Sessions > 0 {
			return "draining"
		}
		return "drained"
	}
	return s.State
}

// healthText is what a service's check found, with the last error.
func healthText(h *control.Health) string {
	switch {
	case h == nil:
		return "-"
	case h.Checked == nil:
		return "not checked yet"
	case h.Healthy && h.Error == "":
		return "healthy"
	case h.Healthy:
		return "healthy (last: " + h.Error + ")"
	case h.Error == "":
		return "failing (last: ok)"
	}
	return "failing: " + h.Error
}
