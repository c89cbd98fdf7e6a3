package routing

import (
	"math"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// newLimits bounds what peers may take of this node. libp2p's defaults would keep
// a whole office behind one NAT out: they allow 8 connections and one new one in
// 5 s per IPv4 address and IPv6 /56.
func newLimits() (network.ResourceManager, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: 1024, ConnsInbound: 768, ConnsOutbound: 512,
			Streams: 8192, StreamsInbound: 4096, StreamsOutbound: 4096,
			Memory: 256 << 20, FD: 64,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: 256, ConnsInbound: 192, ConnsOutbound: 128,
			Streams: 1024, StreamsInbound: 768, StreamsOutbound: 512,
			Memory: 64 << 20, FD: 32,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 16, ConnsInbound: 8, ConnsOutbound: 8,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256,
			Memory: 32 << 20, FD: 4,
		},
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: 8192, StreamsInbound: 4096, StreamsOutbound: 4096, Memory: 128 << 20,
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256, Memory: 32 << 20,
		},
	}.Build(rcmgr.DefaultLimits.AutoScale())
	loopback := func(prefix string) []rcmgr.NetworkPrefixLimit {
		return []rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix(prefix), ConnCount: math.MaxInt}}
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithNetworkPrefixLimit(loopback("127.0.0.0/8"), loopback("::1/128")),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: 256}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: 256}, {PrefixLength: 48, ConnCount: 512}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			GlobalLimit: rate.Limit{RPS: 200, Burst: 1000},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 20, Burst: 256}}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 20, Burst: 256}}},
			},
		}),
	)
}
