package resolver_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"scn.alt/scn/naming/resolver"
)

// The host is made to ask us, and put back.
func Example() {
	dir, err := os.MkdirTemp("", "resolver")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "resolv.conf") // /etc/resolv.conf by default
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\nsearch example.com\n"), 0o644); err != nil {
		fmt.Println(err)
		return
	}
	r, err := resolver.Open(context.Background(), resolver.Config{
		Mode:     resolver.File,
		Servers:  []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53")},
		Domains:  []string{"top", "scn.alt"},
		StateDir: dir,
		Path:     path,
		Upstream: func(servers []netip.AddrPort) { fmt.Println("to be asked for other names:", servers) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("mode:", r.Status().Mode)
	// … r.Run(ctx) keeps it so …
	if err := r.Close(); err != nil {
		fmt.Println(err)
	}
	b, _ := os.ReadFile(path)
	fmt.Printf("%s", b)
	// Output:
	// to be asked for other names: [192.0.2.1:53]
	// mode: file
	// nameserver 192.0.2.1
	// search example.com
}
