package address

import (
	"bytes"
	"testing"
)

// FuzzParseJournal reads what a crash or a stranger may have left in the file.
func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("scn\n"))
	f.Add(bytes.Repeat([]byte{'a'}, 70<<10))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := parseJournal("journal", bytes.NewReader(b))
		if err == nil && len(lines) > bytes.Count(b, []byte{'\n'}) {
			t.Errorf("%d entries of %d lines", len(lines), bytes.Count(b, []byte{'\n'}))
		}
	})
}
