package overlay_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// A network of two nodes and a service. (It needs namespaces and a TUN device,
// so its output is not checked.)
func Example() {
	if err := netns.Enter(); err != nil {
		log.Fatal(err)
	}
	lab, err := netns.Open(netns.Config{Fatal: log.Fatalf})
	if err != nil {
		log.Fatal(err)
	}
	defer lab.Close()
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}

	in := overlay.NewInternet(lab, 2)
	providerHost, link := in.Host("provider", 0, 2)
	clientHost, _ := in.Host("client", 1, 2)
	network := overlay.New(os.Getenv("SCN_BIN"), "/tmp/overlay")
	provider, err := network.Found(ctx, providerHost, link.Addr4())
	must(err)
	must(provider.Up(ctx))
	client, err := network.Join(ctx, clientHost)
	must(err)
	must(client.Up(ctx))
	must(provider.Serve(ctx, "files", "80=tcp://127.0.0.1:8080"))
	address, err := client.Resolve(ctx, "ip4", "files.top")
	must(err)
	fmt.Println(address)
}
