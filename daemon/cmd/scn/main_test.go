package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"scn.alt/scn/daemon"
	"scn.alt/scn/daemon/control"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"scn": main})
}

// TestScripts runs every script below testdata/script: the command as its user
// sees it, on real daemons without TUN, on loopback.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Log("short: daemons are started nonetheless; scripts are few")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SCN_DIR", "")
			for i := range 4 {
				port, err := freePorts()
				if err != nil {
					return err
				}
				e.Setenv(fmt.Sprintf("PORT%d", i), strconv.Itoa(port))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"wait-ready": waitReady, "exec-code": execCode, "tcp-echo": tcpEcho, "has-mode": hasMode, "account-of": accountOf, "ids": ids, "wait-output": waitOutput, "channel-of": channelOf,
		},
	})
}

// freePorts finds two UDP ports in a row that nobody uses on loopback.
func freePorts() (int, error) {
	for range 100 {
		port := 20000 + 2*rand.IntN(20000)
		if portFree(port) && portFree(port+1) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two free UDP ports in a row")
}

func portFree(port int) bool {
	c, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// waitReady waits until the daemon of a directory answers.
func waitReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-ready DIR")
	}
	socket, err := daemon.SocketOf(ts.MkAbs(args[0]))
	ts.Check(err)
	c := control.NewClient(socket)
	defer c.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := c.Status(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("daemon of %s not ready: %v", args[0], err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// accountOf puts the account of the daemon of a directory into an environment
// variable.
func accountOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: account-of DIR VARIABLE")
	}
	socket, err := daemon.SocketOf(ts.MkAbs(args[0]))
	ts.Check(err)
	c := control.NewClient(socket)
	defer c.Close()
	s, err := c.Status(context.Background())
	ts.Check(err)
	ts.Setenv(args[1], s.AccountID.String())
}

// channelOf puts the ID of the first payment channel of a daemon into an environment
// variable.
func channelOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: channel-of DIR VARIABLE")
	}
	socket, err := daemon.SocketOf(ts.MkAbs(args[0]))
	ts.Check(err)
	c := control.NewClient(socket)
	defer c.Close()
	list, err := c.PayChannels(context.Background())
	ts.Check(err)
	if len(list) == 0 {
		ts.Fatalf("no payment channel")
	}
	ts.Setenv(args[1], list[0].ID.String())
}

// tcpEcho starts an echo server that ends with the script, and puts its port into an
// environment variable.
func tcpEcho(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tcp-echo VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its connection
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// hasMode checks a file's permissions.
func hasMode(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: has-mode MODE FILE")
	}
	info, err := os.Stat(filepath.Clean(ts.MkAbs(args[1])))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// execCode runs a command that must end with the exit code given.
func execCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exec-code CODE COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// ids puts the IDs of a daemon's node and account into environment variables.
func ids(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ids DIR NODE ACCOUNT")
	}
	socket, err := daemon.SocketOf(ts.MkAbs(args[0]))
	ts.Check(err)
	c := control.NewClient(socket)
	defer c.Close()
	s, err := c.Status(context.Background())
	ts.Check(err)
	ts.Setenv(args[1], s.NodeID.String())
	ts.Setenv(args[2], s.AccountID.String())
}

// waitOutput runs a command until its standard output matches.
func waitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: wait-output REGEXP COMMAND...")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if out := ts.ReadFile("stdout"); err == nil && want.MatchString(out) {
			return
		} else if time.Now().After(end) {
			ts.Fatalf("%v: no match for %s in\n%s", err, want, out)
		}
	}
}
