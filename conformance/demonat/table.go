package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"scn.alt/scn/conformance/overlay"
)

// table prints what every event cost.
func (s *stage) table(events []event) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "EVENT\tSILENCE OF A 2 ms UDP ECHO\tPAUSE OF THE DOWNLOAD\tMEANWHILE\tDIRECT AFTER")
	for _, e := range events {
		meanwhile := "direct"
		if e.relayed {
			meanwhile = "through a relay"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.name, gap(e.silence, e.heard), gap(e.stall, true), meanwhile, directAfter(e))
	}
	_ = w.Flush()
	fmt.Println("(from the moment curl started, or both hosts could use their new addresses, or the NAT had others)")
}

// describe says how a peer was reached, in the words of its status.
func describe(s overlay.Sighting) string {
	switch {
	case s.At.IsZero():
		return "status does not show the peer"
	case s.Direct():
		return fmt.Sprintf("status: direct, %s → %s", s.Path.Local, s.Path.Remote)
	case s.Path.Relay == nil:
		return "status: " + s.Path.Why
	default:
		return fmt.Sprintf("status: by %s, %s", s.Path.Relay.Short(), s.Path.Why)
	}
}

func directAfter(e event) string {
	if e.direct < 0 {
		return "not"
	}
	return gap(e.direct, true)
}

func gap(d time.Duration, heard bool) string {
	if !heard {
		return fmt.Sprintf("more than %.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
