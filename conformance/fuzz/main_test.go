package main

import "testing"

func TestRanOut(t *testing.T) {
	const progress = "fuzz: elapsed: 5s, execs: 81469 (18876/sec), new interesting: 2 (total: 7)\n"
	for _, c := range []struct {
		name, out string
		want      bool
	}{
		{"time ended within an input", progress + "--- FAIL: FuzzX (4.71s)\n    context deadline exceeded\nFAIL\n", true},
		{"a finding", progress + "--- FAIL: FuzzX (0.02s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:9: wrong\n    \n    Failing input written to testdata/fuzz/FuzzX/1\nFAIL\n", false},
		{"a finding about time", progress + "--- FAIL: FuzzX (0.02s)\n    --- FAIL: FuzzX (0.00s)\n        context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzX/1\nFAIL\n", false},
		{"a panic of the fuzzer", "panic: runtime error\n", false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ranOut([]byte(c.out)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	out := "fuzz: elapsed: 3s, execs: 49139 (16379/sec), new interesting: 2 (total: 7)\nfuzz: elapsed: 5s, execs: 81469 (18876/sec), new interesting: 2 (total: 7)\n"
	if got, want := summary([]byte(out), 0), "81469 executions in 0s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
