package tunnel_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"scn.alt/scn/sal/tunnel"
)

// A relay's UDP port, reached over TLS on TCP.
func Example() {
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	relay, _ := net.ListenUDP("udp4", loopback)
	node, _ := net.ListenUDP("udp4", loopback)
	defer relay.Close()
	defer node.Close()

	server, err := tunnel.Listen(tunnel.ServerConfig{
		Listen: "127.0.0.1:0", Target: relay.LocalAddr().(*net.UDPAddr).AddrPort(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	connected := make(chan struct{}, 1)
	client, err := tunnel.Open(tunnel.ClientConfig{
		Servers:   []netip.AddrPort{server.Addr().(*net.TCPAddr).AddrPort()},
		Node:      node.LocalAddr().(*net.UDPAddr).AddrPort(),
		Proxy:     func(*http.Request) (*url.URL, error) { return nil, nil },
		Connected: func() { connected <- struct{}{} },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	running.Go(func() { _ = client.Run(ctx) })
	<-connected

	_, _ = node.WriteToUDPAddrPort([]byte("a datagram"), client.Local())
	buffer := make([]byte, tunnel.MaxDatagram)
	n, _, _ := relay.ReadFromUDPAddrPort(buffer)
	fmt.Println(string(buffer[:n]))
	cancel()
	running.Wait()
	// Output: a datagram
}
