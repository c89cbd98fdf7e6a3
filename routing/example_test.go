package routing_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"scn.alt/scn/routing"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
	"scn.alt/scn/routing/record"
)

// Two nodes found a network; one provides a service, the other finds it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	founder, first, second := newKey(), newKey(), newKey()
	at := freeAddress()
	file, err := network.File{
		Name: "home", Sequence: 1, Zone: "top", Admission: network.Open,
		Authorities: []identity.NodeID{first.Node()},
		Bootstrap:   []network.Peer{{Node: first.Node(), Addresses: []netip.AddrPort{at}}},
	}.Sign(founder)
	check(err)

	var running sync.WaitGroup
	start := func(key identity.PrivateKey, listen netip.AddrPort) *routing.Router {
		r, err := routing.Open(routing.Config{Key: key, Network: file, Listen: listen, AllowLoopback: true})
		check(err)
		running.Go(func() {
			check(r.Run(ctx))
		})
		r.Observe([]netip.AddrPort{listen}) // package sal calls this whenever the node moves
		return r
	}
	provider, client := start(first, at), start(second, freeAddress())

	// The provider grants itself a service of which it holds the key. Without a peer
	// yet, the record is kept and put when there is one.
	service := newKey()
	_, _, err = provider.UpdateService(ctx, service, func(r record.ServiceRecord, sequence uint64) record.ServiceRecord {
		return r.Grant(record.Grant{Node: first.Node(), Weight: 1}, sequence)
	})
	if !errors.Is(err, routing.ErrNoPeers) {
		check(err)
	}
	for found := false; !found && ctx.Err() == nil; {
		for candidates, err := range client.Resolve(ctx, service.Service()) {
			if err == nil && len(candidates[0].Locators) > 0 {
				fmt.Println(candidates[0].Node == first.Node(), candidates[0].Locators[0] == at)
				found = true
				break
			}
		}
	}

	cancel()
	running.Wait()
	check(errors.Join(client.Close(), provider.Close()))
	// Output:
	// true true
}

// check ends the example where a program would report.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func newKey() identity.PrivateKey {
	key, err := identity.GenerateKey(rand.Reader)
	check(err)
	return key
}

// freeAddress returns an address whose next port is free, for the DHT.
func freeAddress() netip.AddrPort {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	defer c.Close()
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr(), a.Port()-1)
}
