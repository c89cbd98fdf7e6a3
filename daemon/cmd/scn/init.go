package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/daemon"
)

func (a *app) initCommand() *cobra.Command {
	var newNetwork, networkPath, advertise, listen, credits string
	var mobile bool
	cmd := &cobra.Command{
		Use:   "init (--new-network NAME --advertise IP:PORT | --network FILE)",
		Short: "make a node: its keys, its network file, its settings",
		Long: `init makes a node in a directory: keys (readable by you alone), the network
file and the settings. With --new-network the node starts a network of its own: it
is the bootstrap node and the authority for names, and its network.toml is what
others join with. With --network the node joins that network.

It prints the node's ID.`,
		Example: example(
			"scn init --dir /var/lib/scn --new-network home --advertise 203.0.113.7:47700",
			"scn init --dir /var/lib/scn --network network.toml --mobile"),
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.directory()
			if err != nil {
				return err
			}
			cfg := daemon.InitConfig{NewNetwork: newNetwork, Mobile: mobile}
			var errs []error
			address := func(flag, text string, into *netip.AddrPort) {
				if text == "" {
					return
				}
				var err error
				if *into, err = netip.ParseAddrPort(text); err != nil {
					errs = append(errs, fmt.Errorf("--%s: %q is no IP:PORT", flag, text))
				}
			}
			address("advertise", advertise, &cfg.Advertise)
			address("listen", listen, &cfg.Listen)
			if networkPath != "" {
				if cfg.NetworkFile, err = readFile(networkPath, 64<<10); err != nil {
					errs = append(errs, err)
				}
			}
			if credits != "" {
				var err error
				if cfg.Credits, err = voucher.ParseAmount(credits); err != nil {
					errs = append(errs, fmt.Errorf("--credits: %w", err))
				}
			}
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			id, err := daemon.Init(dir, cfg)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, id)
			if newNetwork != "" {
				fmt.Fprintf(a.stderr, "network %q founded; give %s to whoever shall join\n", newNetwork, filepath.Join(dir, "network.toml"))
			}
			fmt.Fprintf(a.stderr, "next: scn --dir %s up\n", dir)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&newNetwork, "new-network", "", "start a network of this name")
	f.StringVar(&credits, "credits", "", "credits the account of a new network's first node begins with (default none)")
	f.StringVar(&advertise, "advertise", "", "the IP:PORT (UDP) others reach this node at")
	f.StringVar(&networkPath, "network", "", "join the network of this file")
	f.StringVar(&listen, "listen", "", "UDP IP:PORT of the sessions (default: all addresses, port 47700)")
	f.BoolVar(&mobile, "mobile", false, "this host moves often: store nothing for others")
	return cmd
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return b, nil
}
