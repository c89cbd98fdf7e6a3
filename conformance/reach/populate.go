package reach

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
	"scn.alt/scn/sal"
)

const (
	// populationVariable tells the copy of the program which part of a crowd it is.
	populationVariable = "SCN_REACH_POPULATION"
	// openFiles is how many a node has at most, spareFiles what a process has besides.
	openFiles, spareFiles = 12, 500
	// populationMost is how many nodes one process has at most: its memory is not the
	// subject.
	populationMost = 2000
	// registeringMost is how many are registering at a time.
	registeringMost = 50
)

// population is a part of a crowd, all in one process.
type population struct {
	Relay        identity.NodeID
	At           netip.AddrPort
	Network      identity.NetworkID
	First, Count int
}

// nodesPerProcess is how many nodes a process of ours may open.
func nodesPerProcess() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	most := (int(min(limit.Max, 1<<20)) - spareFiles) / openFiles
	if most < 1 {
		return 0, fmt.Errorf("reach: %d open files are too few for a crowd", limit.Max)
	}
	return min(most, populationMost), nil
}

// command is this program as the population, on a host.
func (p population) command(ctx context.Context, host *netns.Host) (*netns.Cmd, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := host.Command(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), populationVariable+"="+string(text))
	return cmd, nil
}

// Populate must be called first of all in programs that call [World.Crowd]. In a copy
// that Crowd started it is a part of the crowd until it is killed, and does not
// return.
func Populate() {
	text := os.Getenv(populationVariable)
	if text == "" {
		return
	}
	var p population
	err := json.Unmarshal([]byte(text), &p)
	if err == nil {
		err = p.settle()
	}
	fmt.Fprintln(os.Stderr, "reach: population:", err)
	os.Exit(1)
}

// settle opens the nodes, no faster than they are taken, and stays.
func (p population) settle() error {
	at := record.Candidate{Node: p.Relay, Locators: []netip.AddrPort{p.At}, Expires: time.Now().Add(24 * time.Hour)}
	var registering []*sal.Node
	for n := range p.Count {
		node, err := sal.Open(sal.Config{
			Key: identity.NewKeyFromSeed(seed(p.First + n)), Network: p.Network,
			BootstrapRelays: func() []record.Candidate { return []record.Candidate{at} },
			Resolver:        deaf(p.At),
		})
		if err != nil {
			return fmt.Errorf("node %d of %d: %w", n, p.Count, err)
		}
		registering = append(registering, node)
		for len(registering) >= registeringMost {
			time.Sleep(20 * time.Millisecond)
			registering = slices.DeleteFunc(registering, isRegistered)
		}
	}
	select {}
}

func isRegistered(n *sal.Node) bool {
	return slices.ContainsFunc(n.Relays(), func(r sal.RelayInfo) bool { return r.State != "registering" })
}

func seed(n int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("crowd"), uint64(n)))
}
