package node

import (
	"testing"

	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
)

// A name that is kept for its owner, long after its lease ended, means nothing; nor
// does one that was released. One that has just expired still does.
func TestWhatNamesMeanInTheirLives(t *testing.T) {
	for _, tt := range []struct {
		record name.Record
		want   naming.State
	}{
		{name.Record{Lease: 5}, naming.Registered},
		{name.Record{Lease: 5, Suspended: true}, naming.NotRegistered},
		{name.Record{Released: true}, naming.NotRegistered},
	} {
		if got := answerOf(tt.record).State; got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.record, got, tt.want)
		}
	}
}
