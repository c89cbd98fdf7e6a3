package cashier

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Account is what a ledger says of an account, as signed by its authority.
type Account struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	ID      identity.AccountID `cbor:"2,keyasint"`
	// Counters are all zero for an account that never had money.
	Counters Counters `cbor:"3,keyasint"`
	// Sequence is that of its last transaction about names, Names how many it has.
	Sequence uint64 `cbor:"4,keyasint,omitzero"`
	Names    uint32 `cbor:"5,keyasint,omitzero"`
	// Height and Time are those of the ledger when it answered, in Unix seconds.
	Height uint64 `cbor:"6,keyasint"`
	Time   int64  `cbor:"7,keyasint"`
	// Key signs for the account. Recovery is the account that may change that, NewKey
	// the key of a recovery under way since RecoverySince, which counts from
	// RecoveryDue on.
	Key           identity.AccountID `cbor:"8,keyasint,omitzero"`
	Recovery      identity.AccountID `cbor:"9,keyasint,omitzero"`
	NewKey        identity.AccountID `cbor:"10,keyasint,omitzero"`
	RecoverySince int64              `cbor:"11,keyasint,omitzero"`
	RecoveryDue   int64              `cbor:"12,keyasint,omitzero"`
	// Staked is what it has staked, Unbonding what is on its way back.
	Staked    voucher.Amount    `cbor:"13,keyasint,omitzero"`
	Unbonding []UnbondingAmount `cbor:"14,keyasint,omitempty"`
	// Proof is the checkpoint under which a Client checked this; zero from a Ledger.
	Proof SignedCheckpoint `cbor:"-"`
}

// UnbondingAmount is an amount taken out of a stake.
type UnbondingAmount struct {
	ID     voucher.TransferID `cbor:"1,keyasint"`
	Amount voucher.Amount     `cbor:"2,keyasint"`
	// Since and Due are when it was taken out and when it comes back, in Unix seconds.
	Since int64 `cbor:"3,keyasint"`
	Due   int64 `cbor:"4,keyasint"`
}

// Supply is how much money there is, as part of a Status.
type Supply struct {
	// Issued and Redeemed count up from the ledger's beginning.
	Issued   voucher.Amount `cbor:"1,keyasint,omitzero"`
	Redeemed voucher.Amount `cbor:"2,keyasint,omitzero"`
	// Pending is what is reserved at present, in Holds amounts.
	Pending voucher.Amount `cbor:"3,keyasint,omitzero"`
	Holds   uint64         `cbor:"4,keyasint,omitzero"`
	// Accounts is how many accounts ever had money.
	Accounts uint64 `cbor:"5,keyasint,omitzero"`
	// Treasury is what the treasury has.
	Treasury voucher.Amount `cbor:"6,keyasint,omitzero"`
}

// Circulating is how much money there is.
func (s Supply) Circulating() voucher.Amount {
	rest, _ := s.Issued.Sub(s.Redeemed)
	return rest
}

// Account says what an account has.
func (l *Ledger) Account(_ context.Context, id identity.AccountID) (out Account, err error) {
	// A snapshot, so that the height is that of the counters.
	err = l.snapshot(func(s rows, h head) error {
		out, err = l.account(s, id, h.Height, l.now().Unix())
		return err
	})
	return out, err
}

func (l *Ledger) account(s rows, id identity.AccountID, height uint64, now int64) (Account, error) {
	out, err := readAccount(s, id)
	if err != nil {
		return out, err
	}
	out.Network, out.Height, out.Time = l.cfg.Network, height, now
	_, out.Unbonding, err = readStake(s, id)
	return out, err
}

// readAccount reads what the rows of accountKeys say: all but what is unbonding.
func readAccount(s State, id identity.AccountID) (Account, error) {
	out := Account{ID: id}
	var row accountRow
	if _, err := read(s, accountKey(id), &row); err != nil {
		return out, err
	}
	out.Sequence, out.Names = row.Sequence, row.Names
	var keys keysRow
	if _, err := read(s, keysKey(id), &keys); err != nil {
		return out, err
	}
	out.Key, out.Recovery, out.NewKey, out.RecoverySince, out.RecoveryDue = keys.of(id), keys.Recovery, keys.Pending, keys.Since, keys.Due
	var err error
	if out.Counters, err = readCounters(s, id); err != nil {
		return out, err
	}
	b, err := s.Get(stakeKey(id))
	if b == nil || err != nil {
		return out, err
	}
	stake, err := decodeStake(b)
	out.Staked = stake.staked
	return out, err
}

// Genesis returns what the ledger began with.
func (l *Ledger) Genesis(context.Context) (g Genesis, err error) {
	if err := l.enter(); err != nil {
		return g, err
	}
	defer l.readers.Done()
	return l.store.genesis()
}

// snapshot calls f with the state and head of one moment.
func (l *Ledger) snapshot(f func(rows, head) error) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.readers.Done()
	s := l.store.db.NewSnapshot()
	var h head
	ok, err := l.store.readHead(s, &h)
	if err == nil {
		err = headUnless(ok)
	}
	if err == nil {
		err = f(rows{s}, h)
	}
	return errors.Join(err, s.Close())
}

func readCounters(s State, id identity.AccountID) (Counters, error) {
	b, err := s.Get(moneyKey(id))
	if b == nil || err != nil {
		return Counters{}, err
	}
	return decodeCounters(b)
}

func readSupply(s State, network identity.NetworkID, p Parameters) (out Supply, err error) {
	b, err := s.Get(totalsKey)
	if b == nil || err != nil {
		return out, err
	}
	t, err := decodeTotals(b)
	if err != nil {
		return out, err
	}
	treasury, err := readCounters(s, p.treasury(network))
	return Supply{
		Issued: t.issued, Redeemed: t.redeemed, Pending: voucher.Amount(t.debitsPending.low),
		Holds: t.holds, Accounts: t.accounts, Treasury: treasury.Balance(),
	}, err
}

func (s *Server) account(r *http.Request) (any, error) {
	id, err := identity.ParseAccountID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	since, err := sinceOf(r)
	if err != nil {
		return nil, err
	}
	var reply accountReply
	reply.Proved, err = s.ledger.prove(r.Context(), since, accountKeys(id), func(state rows, c Checkpoint) error {
		a, err := s.ledger.account(state, id, c.Height, c.Time)
		if err != nil {
			return err
		}
		reply.Account, err = sealAs(s.ledger.key, typeAccount, a)
		return err
	})
	return reply, err
}

func (s *Server) genesis(r *http.Request) (any, error) {
	g, err := s.ledger.Genesis(r.Context())
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeGenesis, genesisReply{s.ledger.cfg.Network, g})
}

type genesisReply struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Genesis Genesis            `cbor:"2,keyasint"`
}

// Account asks what an account has. All of it is proved but the list of what is
// unbonding, which the authority signed.
func (c *Client) Account(ctx context.Context, id identity.AccountID) (Account, error) {
	before, err := c.before()
	if err != nil {
		return Account{}, err
	}
	var out Account
	err = c.call(ctx, http.MethodGet, pathAccounts+id.String()+since(before), nil, maxReply, func(b []byte) (err error) {
		out, err = c.openAccount(before, id, b)
		return err
	})
	return out, err
}

func (c *Client) openAccount(before *SignedCheckpoint, id identity.AccountID, b []byte) (Account, error) {
	var reply accountReply
	if err := identity.Unmarshal(b, &reply); err != nil {
		return Account{}, err
	}
	cp, err := c.accept(before, reply.Proved)
	if err != nil {
		return Account{}, err
	}
	state, err := reply.Proved.openRows(cp.Checkpoint, accountKeys(id))
	if err != nil {
		return Account{}, err
	}
	var a Account
	if err := openAnswer(typeAccount, reply.Account, c.cfg.Authorities, &a); err != nil {
		return Account{}, err
	}
	want, err := readAccount(state, id)
	if err != nil {
		return Account{}, err
	}
	want.Network, want.Height, want.Time, want.Unbonding = c.cfg.Network, cp.Height, cp.Time, a.Unbonding
	if !bytes.Equal(mustEncode(a), mustEncode(want)) {
		return Account{}, errors.New("the account is not what was proved")
	}
	a.Proof = cp
	return a, nil
}

// Genesis asks what the ledger began with, for a Replay.
func (c *Client) Genesis(ctx context.Context) (Genesis, error) {
	var reply genesisReply
	err := c.call(ctx, http.MethodGet, pathGenesis, nil, maxReply, func(b []byte) error {
		reply = genesisReply{}
		if err := openAnswer(typeGenesis, b, c.cfg.Authorities, &reply); err != nil {
			return err
		}
		if reply.Network != c.cfg.Network {
			return errors.New("genesis of another network")
		}
		return reply.Genesis.Validate(c.cfg.Network)
	})
	return reply.Genesis, err
}
