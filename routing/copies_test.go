package routing

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-varint"
	"google.golang.org/protobuf/proto"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// serveOnly makes a node answer every question for a record with this value.
func serveOnly(t *testing.T, n *testNode, key string, value []byte) {
	n.host.SetStreamHandler(n.protocol, func(s network.Stream) {
		defer s.Close()
		if _, err := readMessage(s); err != nil {
			return
		}
		answer := pb.NewMessage(pb.Message_GET_VALUE, []byte(key), 0)
		answer.Record = &recpb.Record{Key: []byte(key), Value: value}
		b, err := proto.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		_, _ = s.Write(append(varint.ToUvarint(uint64(len(b))), b...))
	})
}

// Nodes that serve an older or a forged record of a name are told apart from those
// that serve the newest, though a lookup hears nothing of them.
func TestNameCopies(t *testing.T) {
	w := newNetwork(t, 4, nil)
	authority := w.nodes[0].cfg.Key
	sign := func(key identity.PrivateKey, height uint64) []byte {
		raw, err := name.Record{
			Name: "files", Service: testKey("service").Service(), Owner: testKey("owner").Account(), Sequence: height, Height: height,
			NotAfter: time.Now().Add(name.Validity).Unix(),
		}.Seal(key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, err := w.nodes[0].PublishName(t.Context(), "files", sign(authority, 9)); err != nil {
		t.Fatal(err)
	}
	stale, forger := w.nodes[2], w.nodes[3]
	serveOnly(t, stale, nameKey("files"), sign(authority, 5))
	serveOnly(t, forger, nameKey("files"), sign(testKey("forger"), 12))
	rec, _, err := w.nodes[1].LookupName(t.Context(), "files")
	if err != nil || rec.Height != 9 {
		t.Errorf("%+v, %v", rec, err)
	}
	want := map[identity.NodeID]bool{}
	eventually(t, "all copies were seen", func() bool {
		copies, err := w.nodes[1].NameCopies(t.Context(), "files")
		if err != nil {
			t.Error(err)
		}
		for _, c := range copies {
			switch good := c.Err == nil && c.Record.Height == 9; c.Node {
			case stale.cfg.Key.Node():
				if c.Err != nil || c.Record.Height != 5 {
					t.Errorf("stale: %+v", c)
				}
			case forger.cfg.Key.Node():
				if !errors.Is(c.Err, name.ErrAuthority) {
					t.Errorf("forged: %+v", c)
				}
			default:
				if !good {
					t.Errorf("honest: %+v", c)
				}
			}
			want[c.Node] = true
		}
		return len(want) == 4
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if copies, err := w.nodes[1].NameCopies(ctx, "files"); err != nil || len(copies) > 1 {
		t.Errorf("without time: %v, %v", copies, err)
	}
	w.nodes[1].stop()
	if _, err := w.nodes[1].NameCopies(t.Context(), "files"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
