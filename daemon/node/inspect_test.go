package node_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/proofofservice"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// publisher serves a file and its manifest over HTTP, and may alter what it serves.
type publisher struct {
	file     []byte
	manifest atomic.Pointer[[]byte]
	alter    atomic.Bool
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := p.file
	switch r.URL.Path {
	case proofofservice.ManifestPath:
		if m := p.manifest.Load(); m != nil {
			_, _ = w.Write(*m)
			return
		}
		http.NotFound(w, r)
		return
	case "/file":
	default:
		http.NotFound(w, r)
		return
	}
	if p.alter.Load() {
		file = bytes.Clone(file)
		for i := range file {
			file[i] ^= 1
		}
	}
	http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(file))
}

// TestVisit has a node visit the provider of a service in every way, over real
// sessions: each visit has the provider's receipt over its nonce, content that is not
// what the owner published is noticed, and a provider that is gone is absent.
func TestVisit(t *testing.T) {
	provider, client := pair(t)
	p := &publisher{file: make([]byte, 300_000)}
	if _, err := rand.Read(p.file); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ends with Close
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	if _, err := provider.Serve(within(t, 30*time.Second), node.Service{
		Name: "files", Targets: []string{"80=tcp://" + l.Addr().String()}, Allow: []string{"all"}, Weight: 1,
	}); err != nil {
		t.Fatal(err)
	}
	visit := func(kind evidence.Kind) (node.VisitResult, error) {
		return client.Visit(within(t, time.Minute), node.VisitRequest{Service: "files", Node: provider.ID(), Kind: kind, Size: 200_000})
	}
	if _, err := visit(evidence.Correctness); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("nothing is published, and the visit says %v", err)
	}
	nothing, err := visit(evidence.Reach)
	if err != nil || nothing.Content || nothing.Outcome.Verdict != evidence.Pass || nothing.Receipt == nil {
		t.Errorf("%+v, %v", nothing, err)
	}
	directory, err := node.OpenDirectory(provider.dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := directory.PublishContent(name.Name("files"), bytes.NewReader(p.file), 80, "files.top", "/file", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.manifest.Store(&manifest)
	if _, err := directory.PublishContent(name.Name("others"), bytes.NewReader(p.file), 80, "files.top", "/file", time.Now()); !errors.Is(err, node.ErrNotOwned) {
		t.Errorf("another's service: %v", err)
	}
	client.stop() // it believes for a minute that nothing is published
	client = start(t, client.dir, freeAddress(t))
	if !client.WaitJoined(within(t, 20*time.Second)) {
		t.Fatal("no DHT peer")
	}
	for kind := range evidence.Kind(evidence.Kinds) {
		got, err := visit(kind)
		if err != nil || !got.Content || got.Outcome.Verdict != evidence.Pass || got.Outcome.Latency == 0 {
			t.Fatalf("%s: %+v, %v", kind, got, err)
		}
		r := got.Receipt
		if r == nil || r.Node != provider.ID() || r.Service != got.Service || !r.Final || !r.Verify(provider.Network().ID) {
			t.Errorf("%s: receipt %+v", kind, r)
		}
		if kind == evidence.Throughput && (got.Outcome.Rate == 0 || r == nil || r.Sent+r.Received < 200_000) {
			t.Errorf("%s: %+v, receipt %+v", kind, got.Outcome, r)
		}
	}
	p.alter.Store(true)
	if got, err := visit(evidence.Correctness); err != nil || got.Outcome.Verdict != evidence.Wrong || got.Receipt == nil {
		t.Errorf("altered content: %+v, %v", got, err)
	}
	list, err := client.Measured()
	if err != nil || len(list) != 1 || list[0].Node != provider.ID() || list[0].Checks != 8 || list[0].Failed != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if m := client.InspectMetrics(); m.Visits != 7 || m.Passed != 6 || m.Failed != 1 {
		t.Errorf("%+v", m)
	}
	if _, err := client.Visit(within(t, time.Minute), node.VisitRequest{Service: "files", Node: client.ID()}); !errors.Is(err, node.ErrRequest) {
		t.Errorf("a visit to itself: %v", err)
	}
	// A node that does not provide it, and the anchors answer: it is the provider's fault.
	gone := identity.NewKeyFromSeed([32]byte{77}).Node()
	got, err := client.Visit(within(t, time.Minute), node.VisitRequest{Service: "files", Node: gone})
	if err != nil || got.Outcome.Verdict != evidence.Absent || got.Receipt != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
