package node_test

import (
	"errors"
	"testing"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/delegate"
	"scn.alt/scn/routing/identity"
)

// Every node answers for the DHT on the record port of its own service.
func TestRecordsOverASession(t *testing.T) {
	authority, joined := pair(t)
	l, err := authority.Listen(within(t, 20*time.Second), "files", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := authority.Resolve(within(t, 10*time.Second), "files")
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 20*time.Second)
	session, err := joined.Sessions().DialNode(ctx, authority.ID(), node.RecordPort)
	if err != nil {
		t.Fatal(err)
	}
	var record []byte
	key := "/scn/svc/" + r.Service.String()
	for value, err := range delegate.Get(ctx, session, key) {
		if err != nil {
			t.Fatal(err)
		}
		record = value
		break
	}
	if len(record) == 0 {
		t.Fatal("no record came")
	}
	for _, c := range []struct {
		name string
		key  string
		want error
	}{
		{"its own key", key, nil},
		{"another key", "/scn/svc/" + identity.ServiceOf(joined.ID()).String(), delegate.ErrRefused},
	} {
		session, err := joined.Sessions().DialNode(ctx, authority.ID(), node.RecordPort)
		if err != nil {
			t.Fatal(err)
		}
		if err := delegate.Put(ctx, session, c.key, record); !errors.Is(err, c.want) {
			t.Errorf("put under %s: %v, want %v", c.name, err, c.want)
		}
	}
	if m := authority.Records().Metrics(); m.Gets == 0 || m.Puts < 2 || m.Refused != 1 {
		t.Errorf("counted %+v", m)
	}
}
