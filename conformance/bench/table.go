package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// table is what was measured.
type table struct {
	lines  []string
	missed int
}

// ratio enters a speed beside wireguard-go's: more is better.
func (t *table) ratio(name string, bare, wireguard, scn, want float64) {
	ratio := scn / wireguard
	t.add(ratio >= want, fmt.Sprintf("%s\t%.0f\t%.0f\t%.0f\t%.2f ×\t≥ %.1f ×", name, bare, wireguard, scn, ratio, want))
}

// limit enters a value that must stay below another.
func (t *table) limit(name string, value, limit float64, format string) {
	t.add(value <= limit, fmt.Sprintf("%s\t\t\t"+format+"\t\t≤ %g", name, value, limit))
}

func (t *table) add(ok bool, line string) {
	verdict := "ok"
	if !ok {
		verdict = "MISSED"
		t.missed++
	}
	t.lines = append(t.lines, line+"\t"+verdict)
}

// print writes the table and returns how many limits were missed.
func (t *table) print(w io.Writer) int {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MEASURE\tBARE\tWIREGUARD-GO\tSCN\tSCN/WG\tREQUIRED\t")
	for _, l := range t.lines {
		fmt.Fprintln(tw, l)
	}
	_ = tw.Flush()
	return t.missed
}
