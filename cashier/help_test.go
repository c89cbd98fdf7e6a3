package cashier

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// key returns a fixed key for a number, so that tests print the same IDs.
func key(n uint16) identity.PrivateKey {
	return identity.NewKeyFromSeed([32]byte{byte(n >> 8), byte(n), 'k'})
}

var (
	founder   = key(1)
	authority = key(2)
	alice     = key(3)
	bob       = key(4)
	files     = key(5) // services
	mail      = key(6)
	network   = founder.Network()
	epoch     = time.Unix(1_800_000_000, 0)
)

// open opens a ledger in memory and closes it with the test.
func open(t testing.TB, change ...func(*Config)) *Ledger {
	t.Helper()
	cfg := Config{Network: network, fs: vfs.NewMem()}
	for _, f := range change {
		f(&cfg)
	}
	l, err := Open("ledger", authority, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// begun returns the state before the first block, and its app hash.
func begun(t interface{ Fatal(...any) }, p Parameters, balances ...GenesisBalance) (memory, Hash) {
	state := memory{}
	changes, app, err := NewGenesis(p, balances...).start(network)
	if err != nil {
		t.Fatal(err)
	}
	_ = state.put(changes)
	return state, app
}

func wallet(account identity.PrivateKey, s Submitter) *Wallet {
	return NewWallet(account, network, s, nil)
}

// serve serves the ledger on loopback and returns a client of it.
func serve(t testing.TB, l *Ledger, cfg ServerConfig) *Client {
	t.Helper()
	s, err := NewServer(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dial(t, ln.Addr().String())
}

func dial(t testing.TB, addr string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{
		Network: network, Authorities: []identity.NodeID{authority.Node()},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// sealed signs an operation with a sequence number.
func sealed(t testing.TB, account identity.PrivateKey, sequence uint64, op Operation) []byte {
	t.Helper()
	return must[[]byte](t)(Transaction{Network: network, Sequence: sequence, Operation: op}.Sign(account))
}

// registration signs the registration of a name.
func registration(t testing.TB, account, service identity.PrivateKey, sequence uint64, n name.Name) []byte {
	t.Helper()
	return sealed(t, account, sequence, Register{n, service.Service(), Consent(service, network, account.Account(), sequence, n), 0})
}

// payment signs an operation about money that is valid until a time.
func payment(t testing.TB, account identity.PrivateKey, until int64, op Operation) []byte {
	t.Helper()
	return must[[]byte](t)(Transaction{Network: network, ValidUntil: until, Operation: op}.Sign(account))
}

// transferNumber returns a transfer ID of a number.
func transferNumber(n uint64) voucher.TransferID {
	var id voucher.TransferID
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}
