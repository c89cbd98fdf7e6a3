package cashier

import (
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
func (l *Ledger) Account(_ context.Context, id identity.AccountID) (Account, error) {
	out := Account{Network: l.cfg.Network, ID: id, Time: l.now().Unix()}
	// A snapshot, so that the height is that of the counters.
	err := l.snapshot(func(s rows, h head) error {
		out.Height = h.Height
		var row accountRow
		if _, err := read(s, accountKey(id), &row); err != nil {
			return err
		}
		out.Sequence, out.Names = row.Sequence, row.Names
		var keys keysRow
		if _, err := read(s, keysKey(id), &keys); err != nil {
			return err
		}
		out.Key, out.Recovery, out.NewKey, out.RecoverySince, out.RecoveryDue = keys.of(id), keys.Recovery, keys.Pending, keys.Since, keys.Due
		var err error
		if out.Counters, err = readCounters(s, id); err != nil {
			return err
		}
		out.Staked, out.Unbonding, err = readStake(s, id)
		return err
	})
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
		err = missingUnless(ok, "head")
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
	a, err := s.ledger.Account(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeAccount, a)
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

// Account asks what an account has.
func (c *Client) Account(ctx context.Context, id identity.AccountID) (Account, error) {
	var a Account
	err := c.call(ctx, http.MethodGet, pathAccounts+id.String(), nil, maxReply, func(b []byte) error {
		a = Account{}
		if err := openAnswer(typeAccount, b, c.cfg.Authorities, &a); err != nil {
			return err
		}
		if a.Network != c.cfg.Network || a.ID != id {
			return errors.New("account of another network or somebody else")
		}
		return nil
	})
	return a, err
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
