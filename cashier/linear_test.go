package cashier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// What clients ask of the ledger, and what they are told, for porcupine.
type asked struct {
	account int // index in payers
	to      int
	id      uint64 // of a payment; 0 reads the balance
	amount  voucher.Amount
}

type told struct {
	unknown bool // no answer: the payment may have been made, now or later
	refused bool // not enough money
	balance voucher.Amount
}

// bank is the whole ledger as clients may see it: balances, and the IDs done.
type bank struct {
	balances [linearAccounts]voucher.Amount
	done     map[[2]uint64]bool
}

const linearAccounts = 3

var linearModel = porcupine.NondeterministicModel{
	Init: func() []any {
		return []any{bank{balances: [linearAccounts]voucher.Amount{linearStart, linearStart, linearStart}}}
	},
	Step: func(state, input, output any) []any {
		s, in, out := state.(bank), input.(asked), output.(told)
		if in.id == 0 {
			if out.unknown || s.balances[in.account] == out.balance {
				return []any{s}
			}
			return nil
		}
		key := [2]uint64{uint64(in.account), in.id}
		var next []any
		if s.done[key] {
			if !out.refused {
				next = append(next, s) // once only, and the first answer again
			}
			return next
		}
		enough := s.balances[in.account] >= in.amount
		if enough && !out.refused {
			paid := bank{s.balances, maps.Clone(s.done)}
			if paid.done == nil {
				paid.done = map[[2]uint64]bool{}
			}
			paid.balances[in.account] -= in.amount
			paid.balances[in.to] += in.amount
			paid.done[key] = true
			next = append(next, paid)
		}
		if out.unknown || !enough && out.refused {
			next = append(next, s)
		}
		return next
	},
	Equal: func(a, b any) bool {
		x, y := a.(bank), b.(bank)
		return x.balances == y.balances && maps.Equal(x.done, y.done)
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v → %+v", in, out) },
}

const linearStart = 20

// Clients pay one another and look at balances over connections that are cut, on a
// ledger that is stopped and started: whatever order they saw, there is one order of
// all operations that explains every answer, and that keeps to real time.
func TestLinearizable(t *testing.T) {
	payers := [linearAccounts]identity.PrivateKey{key(401), key(402), key(403)}
	var balances []GenesisBalance
	for _, p := range payers {
		balances = append(balances, GenesisBalance{p.Account(), linearStart})
	}
	disturbed, checked := 0, 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			s := &restarting{config: Config{Network: network, Balances: balances, fs: vfs.NewMem()}}
			s.start(t)
			defer s.stop(t)
			var mu sync.Mutex
			var history []porcupine.Operation
			begin := time.Now()
			var wg sync.WaitGroup
			for client := range 4 {
				random := rand.New(rand.NewPCG(seed, uint64(client)))
				c := must[*Client](t)(NewClient(ClientConfig{
					Network: network, Authorities: []identity.NodeID{authority.Node()}, Dial: s.dial,
					Timeout: 2 * time.Second, Attempts: 1, Backoff: time.Millisecond,
				}))
				defer c.Close()
				wg.Go(func() {
					for n := range 12 {
						in := asked{account: random.IntN(linearAccounts)}
						if n%3 != 2 {
							// Few IDs, so that one is asked for again by another client: with
							// the same content, which is a function of it.
							in.id = uint64(1 + random.IntN(6))
							in.to = (in.account + 1 + int(in.id)%2) % linearAccounts
							in.amount = voucher.Amount(2 * in.id)
						}
						time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
						call := time.Since(begin)
						out := askLedger(t, c, payers[:], in)
						op := porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(time.Since(begin))}
						if out.unknown && in.id == 0 {
							continue // says nothing
						}
						if out.unknown {
							op.Return = int64(time.Hour) // it may still happen
						}
						mu.Lock()
						history = append(history, op)
						mu.Unlock()
					}
				})
			}
			var over atomic.Bool
			var disturber sync.WaitGroup
			disturber.Go(func() {
				random := rand.New(rand.NewPCG(seed, 99))
				for !over.Load() {
					time.Sleep(time.Duration(4000+random.IntN(8000)) * time.Microsecond)
					if random.IntN(4) == 0 {
						s.stop(t)
						s.start(t)
					} else {
						s.cut()
					}
				}
			})
			wg.Wait()
			over.Store(true)
			disturber.Wait()
			unknown := 0
			for _, op := range history {
				if op.Output.(told).unknown {
					unknown++
				}
			}
			t.Logf("%d operations, %d without an answer, %d restarts, %d cuts", len(history), unknown, s.starts, s.cuts)
			disturbed += unknown + s.starts - 1
			model := linearModel.ToModel()
			switch porcupine.CheckOperationsTimeout(model, history, 8*time.Second) {
			case porcupine.Illegal:
				t.Errorf("no order explains what the clients were told: %v", history)
			case porcupine.Unknown:
				t.Skip("too many operations without an answer to check in time")
			case porcupine.Ok:
				checked++
			}
			// The check is not blind: one balance told wrong has no explanation.
			i := slices.IndexFunc(history, func(op porcupine.Operation) bool {
				return op.Input.(asked).id == 0 && !op.Output.(told).unknown
			})
			if i >= 0 {
				wrong := slices.Clone(history)
				wrong[i].Output = told{balance: linearStart*linearAccounts + 1}
				if r := porcupine.CheckOperationsTimeout(model, wrong, 3*time.Second); r == porcupine.Ok {
					t.Error("a balance nobody can have was explained")
				}
			}
		})
	}
	if disturbed == 0 || checked == 0 {
		t.Errorf("%d histories checked, %d times disturbed: this proves nothing", checked, disturbed)
	}
}

func askLedger(t *testing.T, c *Client, payers []identity.PrivateKey, in asked) told {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if in.id == 0 {
		a, err := c.Account(ctx, payers[in.account].Account())
		if err != nil {
			return told{unknown: true}
		}
		return told{balance: a.Counters.Balance()}
	}
	op := Transfer{transferNumber(in.id), []Move{{Kind: MovePay, To: payers[in.to].Account(), Amount: in.amount}}}
	signed, err := Transaction{Network: network, ValidUntil: time.Now().Unix() + 3600, Operation: op}.Sign(payers[in.account])
	if err != nil {
		t.Error(err)
	}
	switch _, err := c.Submit(ctx, signed); {
	case err == nil:
		return told{}
	case errors.Is(err, ErrFunds):
		return told{refused: true}
	}
	return told{unknown: true}
}

// restarting is a ledger with its server, which can be stopped, started and cut off.
type restarting struct {
	config Config

	mu           sync.Mutex
	ledger       *Ledger
	end          func()
	address      string
	conns        []net.Conn
	starts, cuts int
}

func (s *restarting) start(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := Open("ledger", authority, s.config)
	if err != nil {
		t.Error(err)
		return
	}
	server, err := NewServer(l, ServerConfig{RequestRate: 1e6, RequestBurst: 1e6, SubmitRate: 1e6, SubmitBurst: 1e6, AccountRate: 1e6, PrefixRate: 1e6})
	if err != nil {
		t.Error(err)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			t.Error(err)
		}
	})
	s.ledger, s.address, s.starts = l, listener.Addr().String(), s.starts+1
	s.end = func() { cancel(); wg.Wait() }
}

func (s *restarting) stop(t *testing.T) {
	s.cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ledger.Close(); err != nil { // under the requests being answered
		t.Error(err)
	}
	s.end()
}

// cut ends all connections.
func (s *restarting) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns, s.cuts = nil, s.cuts+1
}

func (s *restarting) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	address := s.address
	s.mu.Unlock()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
	}
	return c, err
}
