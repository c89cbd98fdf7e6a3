package main

import "testing"

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []uint32
		want   string
	}{
		{nil, "-"},
		{[]uint32{5}, "▁"},
		{[]uint32{100, 101, 100}, "▁▁▁"},
		{[]uint32{1, 10, 100, 1000, 10, 0}, "▁▃▆█▃▁"},
		{[]uint32{9, 9, 9, 1, 1000}, "▁█"},
	} {
		width := 24
		if len(c.want) == 6 {
			width = 2
		}
		if got := sparkline(c.values, width); got != c.want {
			t.Errorf("%v: %s, want %s", c.values, got, c.want)
		}
	}
}
