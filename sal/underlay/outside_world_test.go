package underlay

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// nat has a router hide what comes from one of its ports, with nftables.
func (h *host) nat(port, how string) {
	h.tb.Helper()
	script := fmt.Sprintf(`
		flush ruleset
		table ip nat {
			chain post {
				type nat hook postrouting priority srcnat;
				iifname %q %s
			}
		}`, port, how)
	h.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

// TestOutsideOfNAT has a host behind a NAT talk to two others outside of it.
func TestOutsideOfNAT(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	for _, tc := range []struct {
		name, how string
		kind      NATKind
	}{
		{"cone", "snat to 10.99.0.1", NATCone},
		{"symmetric", "snat to 10.99.0.1 fully-random", NATSymmetric},
	} {
		t.Run(tc.name, func(t *testing.T) {
			router, inside := newRouter(t), newHost(t)
			attach(inside, router, 1, "eth0")
			inside.join("eth0", 1, 0)
			router.nat("side1eth0", tc.how)
			var mu sync.Mutex
			var published []netip.AddrPort
			in := inside.peer('i', Config{LocatorsChanged: func(list []netip.AddrPort) {
				mu.Lock()
				published = list
				mu.Unlock()
			}}, true)
			var told []*session // the others' side
			for x := 2; x <= 3; x++ {
				h := newHost(t)
				attach(h, router, x, "eth0")
				h.join("eth0", x, 0)
				p := h.peer(byte(x), Config{}, true)
				_, s := connect(t, in, p, locator(at(x, 0), p.Port()))
				told = append(told, s)
				if x == 2 {
					eventually(t, "one peer's word is told", func() bool { return len(in.advertised()) == 2 })
					if in.NAT() != NATUnknown || len(in.Locators()) != 1 {
						t.Errorf("after the word of one: %v, %v", in.NAT(), in.Locators())
					}
				}
			}
			eventually(t, "kind of NAT found", func() bool { return in.NAT() == tc.kind })
			inner := locator(at(1, 0), in.Port())
			if tc.kind == NATSymmetric {
				if got := in.advertised(); !slices.Equal(got, []netip.AddrPort{inner}) {
					t.Errorf("told %v", got)
				}
				return
			}
			outer := told[0].a.Info().Remote
			want := []netip.AddrPort{outer, inner}
			eventually(t, "published", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Equal(published, want) && slices.Equal(in.Locators(), want)
			})
			if outer.Addr() == inner.Addr() {
				t.Errorf("seen as %v", outer)
			}
			// Another network has another NAT.
			router.nat("side1eth0", "accept")
			inside.leave("eth0", 1, 0)
			inside.join("eth0", 1, 1)
			eventually(t, "that there is none", func() bool { return in.NAT() == NATNone && len(in.Locators()) == 1 })
		})
	}
}
