package routing

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// A hundred nodes behind one address get in; a thousand connections do not.
func TestManyNodesBehindOneAddress(t *testing.T) {
	for _, ip := range []string{"/ip4/192.0.2.1", "/ip6/2001:db8::1"} {
		limits, err := newLimits()
		if err != nil {
			t.Fatal(err)
		}
		accepted := 0
		for i := range 1000 {
			m, err := ma.NewMultiaddr(fmt.Sprintf("%s/udp/%d/quic-v1", ip, 10_000+i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := limits.OpenConnection(network.DirInbound, false, m); err == nil {
				accepted++
			}
		}
		if accepted < 100 || accepted > 500 {
			t.Errorf("%s: %d of 1000 connections accepted", ip, accepted)
		}
		if err := limits.Close(); err != nil {
			t.Error(err)
		}
	}
}
