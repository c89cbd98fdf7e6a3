package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// table prints what every event cost.
func (s *stage) table(ctx context.Context, events []event) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "EVENT\tNEW ADDRESS\tSILENCE OF A 2 ms UDP ECHO\tPAUSE OF THE DOWNLOAD")
	for _, e := range events {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.name, e.where, gap(e.silence, e.heard), gap(e.stall, true))
	}
	_ = w.Flush()
	fmt.Println("(from the moment the new address, or the network, was usable)")
	status, err := s.client.node.Status(ctx)
	if err != nil {
		fmt.Println("scn status:", err)
		return
	}
	for _, p := range status.Peers {
		if p.NodeID.String() == s.server.node.ID {
			fmt.Printf("scn status: %s → %s, %d moves, last gap %.1f ms, %d MB received\n",
				p.Path.Local, p.Path.Remote, p.Moves, p.LastGapMS, p.BytesReceived/1_000_000)
		}
	}
}

func gap(d time.Duration, heard bool) string {
	if !heard {
		return fmt.Sprintf("more than %.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
