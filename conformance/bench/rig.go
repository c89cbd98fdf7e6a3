package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// rig is the two hosts, with everything to be compared between them:
//
//	client ── lan1 ── router ── lan2 ── provider, and lan3, lan4 to move to
type rig struct {
	net              *overlay.Internet
	client, provider *overlay.Node
	links            [2]*netns.Link // the client's and the provider's
	number           int
	closers          []func()
	// targets are where the same service is reached: by the bare network, through
	// wireguard-go and through the overlay.
	targets []target
}

type target struct{ name, host string }

// The networks of the rig.
const (
	core = iota
	lan1
	lan2
	lan3
	lan4
	networks
)

func newRig(ctx context.Context, b *bench, lab *netns.Lab, work string) (*rig, error) {
	r := &rig{net: overlay.NewInternet(lab, networks), number: 10}
	client, clientLink := r.net.Host("client", lan1, 2)
	provider, providerLink := r.net.Host("provider", lan2, 2)
	authority, authorityLink := r.net.Host("authority", core, 2)
	r.links = [2]*netns.Link{clientLink, providerLink}

	network := overlay.New(b.scn, work)
	first, err := network.Found(ctx, authority, authorityLink.Addr())
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := first.Up(bounded); err != nil {
		return nil, err
	}
	for _, n := range []struct {
		node **overlay.Node
		host *netns.Host
	}{{&r.client, client}, {&r.provider, provider}} {
		if *n.node, err = network.Join(bounded, n.host); err != nil {
			return nil, err
		}
		if err := (*n.node).Up(bounded); err != nil {
			return nil, err
		}
	}
	if err := r.servers(ctx, provider, work); err != nil {
		return nil, err
	}
	if err := r.provider.Serve(bounded, "bench", "5201=tcp://127.0.0.1:5201", "8080=tcp://127.0.0.1:8080", "7=udp://127.0.0.1:7"); err != nil {
		return nil, err
	}
	if _, err := r.client.Resolve(bounded, "ip4", "bench.top"); err != nil {
		return nil, err
	}
	if err := tunnel(ctx, b.wireguard, [2]*netns.Host{client, provider}, r.links); err != nil {
		return nil, err
	}
	r.targets = []target{{"bare", providerLink.Addr4().String()}, {"wireguard-go", wireguard2}, {"scn", "bench.top"}}
	return r, nil
}

func (r *rig) close() {
	for _, c := range r.closers {
		c()
	}
}

// servers starts what is measured against, on every address of the provider.
func (r *rig) servers(ctx context.Context, provider *netns.Host, _ string) error {
	if err := provider.Command(ctx, "iperf3", "-s", "-p", "5201").Start(); err != nil {
		return err
	}
	l, err := provider.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	body := strings.Repeat("x", 512)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	echo, err := overlay.ServeEcho(provider, ":7")
	if err != nil {
		return errors.Join(err, server.Close())
	}
	r.closers = append(r.closers, func() {
		_ = server.Close()
		_ = echo.Close()
		wg.Wait()
	})
	return nil
}

// The addresses inside the WireGuard tunnel.
const (
	wireguard1 = "10.77.0.1"
	wireguard2 = "10.77.0.2"
)

// tunnel starts wireguard-go on both hosts and joins them.
func tunnel(ctx context.Context, binary string, hosts [2]*netns.Host, links [2]*netns.Link) error {
	inside := [2]string{wireguard1, wireguard2}
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i, h := range hosts {
		if err := h.Command(ctx, "mkdir", "-p", "/run/wireguard").Run(); err != nil {
			return err
		}
		cmd := h.Command(ctx, binary, "-f", "wg0")
		cmd.Env = append(cmd.Environ(), "LOG_LEVEL=error")
		if err := cmd.Start(); err != nil {
			return err
		}
		other := 1 - i
		text := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=51820\npublic_key=%s\nendpoint=%s:51820\nallowed_ip=%s/32\npersistent_keepalive_interval=1\n\n",
			hex.EncodeToString(keys[i].Bytes()), hex.EncodeToString(keys[other].PublicKey().Bytes()), links[other].Addr4(), inside[other])
		if err := configure(ctx, h, text); err != nil {
			return err
		}
		if err := h.Configure("wg0", inside[i]+"/24", 1420); err != nil {
			return err
		}
	}
	return nil
}

// configure speaks WireGuard's configuration protocol.
func configure(ctx context.Context, h *netns.Host, text string) error {
	var last error
	for range 200 {
		var c net.Conn
		h.Do(func() {
			var d net.Dialer
			c, last = d.DialContext(ctx, "unix", filepath.Join("/run/wireguard", "wg0.sock"))
		})
		if last != nil {
			time.Sleep(25 * time.Millisecond)
			continue
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		answer := make([]byte, 256)
		n, err := c.Read(answer)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(answer[:n]), "errno=0") {
			return fmt.Errorf("wireguard-go: %s", answer[:n])
		}
		return nil
	}
	return fmt.Errorf("wireguard-go: %w", last)
}
