package usage_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"scn.alt/scn/cashier/usage"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// A node writes down what sessions used, and makes an invoice of it.
func Example() {
	dir, err := os.MkdirTemp("", "usage")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	log, err := usage.Open(dir, usage.Config{Clock: func() time.Time { return noon }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	channel := voucher.ChannelID{1}
	log.Record(usage.Record{
		Nonce: [32]byte{1}, Service: identity.ServiceID{2}, Peer: identity.NodeID{3}, Payer: true,
		Channel: channel, Received: 200_000_000, Amount: 186_265, Start: noon.UnixMilli(), End: noon.UnixMilli() + 9000, Final: true,
	})
	if err := log.Flush(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	s, err := usage.MakeStatement(log.Records(time.Time{}, noon.Add(time.Hour)),
		[]usage.Position{{Channel: channel, Promised: 186_265, Settled: 150_000}}, identity.AccountID{}, noon, noon.Add(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range s.Lines {
		fmt.Printf("%s %s: %d session, used %s, promised %s, settled %s, still to settle %s\n",
			l.Channel.Short(), l.Direction(), l.Sessions, l.Used, l.Position.Promised, l.Position.Settled, l.Unsettled)
	}
	// Output:
	// 0100000000 paid: 1 session, used 0.186265, promised 0.186265, settled 0.15, still to settle 0.036265
}
