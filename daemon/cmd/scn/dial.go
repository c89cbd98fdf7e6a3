package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

func (a *app) dialCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dial NAME:PORT",
		Short: "connect standard input and output to a service, without TUN",
		Long: `dial opens a session to a service and joins it to standard input and output. It
needs no root and no TUN; it suits ssh's ProxyCommand and scripts.`,
		Example: example("echo hello | scn dial echo:7", "ssh -o ProxyCommand='scn dial %h:%p' user@shell.top"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, portText, err := net.SplitHostPort(args[0])
			port, err2 := strconv.ParseUint(portText, 10, 16)
			if err != nil || err2 != nil || port == 0 || host == "" {
				return usageError{fmt.Errorf("%q is no NAME:PORT", args[0])}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			conn, err := c.Dial(cmd.Context(), host, uint16(port))
			if err != nil {
				return err
			}
			defer conn.Close()
			stop := context.AfterFunc(cmd.Context(), func() { _ = conn.Close() })
			defer stop()
			return a.pump(cmd.Context(), conn)
		},
	}
}

// pump joins the connection to standard input and output. It returns when the
// peer has ended its side: standard input may never end.
func (a *app) pump(ctx context.Context, conn net.Conn) error {
	// Nobody waits for this one: standard input may never end, the process does.
	new(sync.WaitGroup).Go(func() {
		_, err := io.Copy(conn, a.stdin)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
		}
	})
	_, err := io.Copy(a.stdout, conn)
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return control.Errorf(control.Failed, "the session broke: the peer reset it, or was out of reach for too long")
	}
	return err
}

func (a *app) proxyCommand() *cobra.Command {
	var cfg daemon.ProxyConfig
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "offer a SOCKS5 and an HTTP proxy to overlay names, without root",
		Long: `proxy lets programs that know proxies reach services without TUN, root or DNS: names
are resolved inside. It carries overlay names only, and asks the running daemon
("scn up --no-tun" needs no root either).`,
		Example: example("scn proxy", "curl --proxy socks5h://127.0.0.1:1080 http://files.top/"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			cfg.Dial = c.Dial
			cfg.Ready = func(socks, http net.Addr) {
				fmt.Fprintf(a.stdout, "ready: socks5h://%s http://%s\n", socks, http)
			}
			if _, err := c.Status(cmd.Context()); err != nil {
				return err
			}
			return daemon.RunProxy(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.SOCKS, "socks", "127.0.0.1:1080", "address of the SOCKS5 proxy")
	cmd.Flags().StringVar(&cfg.HTTP, "http", "127.0.0.1:8118", "address of the HTTP proxy")
	return cmd
}
