package naming_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/naming/upstream"
	"scn.alt/scn/routing/identity"
)

var chat identity.ServiceID = sha256.Sum256([]byte("chat"))

// registry knows one name.
type registry struct{}

func (registry) Lookup(_ context.Context, n name.Name) (naming.Answer, error) {
	if n != "chat" {
		return naming.Answer{State: naming.NotRegistered}, nil
	}
	record := name.Record{Name: n, Service: chat, NotAfter: time.Now().Add(time.Hour).Unix()}
	return naming.Answer{State: naming.Registered, Record: record}, nil
}

// services finds every service's record.
type services struct{}

func (services) Lookup(context.Context, identity.ServiceID) (naming.Service, error) {
	return naming.Service{}, nil
}

// addresses has one virtual address.
type addresses struct{}

func (addresses) Assign(context.Context, identity.ServiceID) (v4, v6 netip.Addr, err error) {
	return netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("fd53::7"), nil
}

func (addresses) Service(addr netip.Addr) (identity.ServiceID, bool) {
	return chat, addr == netip.MustParseAddr("198.18.0.7")
}

func Example() {
	names, err := naming.OpenNames(registry{}, naming.NamesConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer names.Close()
	others, err := upstream.New(upstream.Config{}) // knows no server here
	if err != nil {
		fmt.Println(err)
		return
	}
	defer others.Close()
	server, err := naming.Open(names, addresses{}, services{}, others, naming.Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, // the TUN's own address, port 53
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()

	for _, host := range []string{"chat.top.", "www.chat.top.", "nobody.scn.alt.", "example.com."} {
		answer, err := dns.Exchange(new(dns.Msg).SetQuestion(host, dns.TypeA), server.Addrs()[0].String())
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Print(host, " ", dns.RcodeToString[answer.Rcode])
		for _, rr := range answer.Answer {
			fmt.Print(" ", rr.(*dns.A).A)
		}
		fmt.Println()
	}
	stop()
	fmt.Println("stopped:", <-done)
	// Output:
	// chat.top. NOERROR 198.18.0.7
	// www.chat.top. NOERROR 198.18.0.7
	// nobody.scn.alt. NXDOMAIN
	// example.com. SERVFAIL
	// stopped: <nil>
}
