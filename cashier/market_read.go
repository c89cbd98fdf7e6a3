package cashier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Limits of what is told of channels and asks at once: an answer must fit an
// envelope.
const (
	maxChannelsPage = 100
	maxAsksPage     = 100
)

// Channel is what a ledger says of a channel. A Client has it from proved rows, or in a
// list that the authority signed.
type Channel struct {
	Network  identity.NetworkID `cbor:"1,keyasint"`
	ID       voucher.ChannelID  `cbor:"2,keyasint"`
	State    ChannelState       `cbor:"3,keyasint"`
	Client   identity.AccountID `cbor:"4,keyasint"`
	Provider identity.AccountID `cbor:"5,keyasint"`
	Node     identity.NodeID    `cbor:"6,keyasint"`
	Service  identity.ServiceID `cbor:"7,keyasint"`
	Session  voucher.SessionKey `cbor:"8,keyasint"`
	// Price, LossAllowance and MaxWindow are the ask's it was opened against.
	Price         voucher.Price `cbor:"9,keyasint"`
	LossAllowance uint32        `cbor:"10,keyasint,omitzero"`
	MaxWindow     uint32        `cbor:"11,keyasint,omitzero"`
	// Deposit is all that was put into it, Settled all that was paid out of it.
	Deposit voucher.Amount `cbor:"12,keyasint"`
	Settled voucher.Amount `cbor:"13,keyasint,omitzero"`
	// Sequence, Bytes and Milliseconds are the highest of the vouchers settled.
	Sequence     uint64 `cbor:"14,keyasint,omitzero"`
	Bytes        uint64 `cbor:"15,keyasint,omitzero"`
	Milliseconds uint64 `cbor:"16,keyasint,omitzero"`
	// Expires and Deadline are as they stand now, in Unix seconds; a halt of the ledger
	// moves both on. Deadline is 0 unless the channel is, or was, closing.
	Expires  int64 `cbor:"17,keyasint"`
	Deadline int64 `cbor:"18,keyasint,omitzero"`
	// Opened is the height of the block that opened it.
	Opened uint64 `cbor:"19,keyasint"`
	// Height and Time are those of the ledger when it answered.
	Height uint64 `cbor:"20,keyasint"`
	Time   int64  `cbor:"21,keyasint"`
}

// Left is what may still be settled.
func (c Channel) Left() voucher.Amount {
	if c.State == ChannelClosed {
		return 0
	}
	rest, _ := c.Deposit.Sub(c.Settled)
	return rest
}

// PostedAsk is what is asked for a service on one node.
type PostedAsk struct {
	// Ask was posted before, and Next, if not zero, takes its place at its ValidFrom.
	Ask  voucher.Ask `cbor:"1,keyasint,omitzero"`
	Next voucher.Ask `cbor:"2,keyasint,omitzero"`
}

// At returns the ask that holds at a time.
func (p PostedAsk) At(t time.Time) (voucher.Ask, bool) { return p.at(t.Unix()) }

func (p PostedAsk) at(now int64) (voucher.Ask, bool) {
	ask := p.Ask
	if p.Next != (voucher.Ask{}) && now >= p.Next.ValidFrom {
		ask = p.Next
	}
	return ask, ask != (voucher.Ask{}) && ask.ValidFrom <= now && now <= ask.ValidTo
}

// node returns the node that is asked for.
func (p PostedAsk) node() identity.NodeID {
	if p.Ask != (voucher.Ask{}) {
		return p.Ask.Node
	}
	return p.Next.Node
}

// describe makes an answer of a row.
func (c *channelRow) describe(id voucher.ChannelID, h head, m marketRow, now int64) Channel {
	out := Channel{
		Network: h.Network, ID: id, State: c.state, Client: c.client, Provider: c.provider, Node: c.node,
		Service: c.service, Session: c.session, Price: c.price, LossAllowance: c.loss, MaxWindow: c.window,
		Deposit: c.deposit, Settled: c.settled, Sequence: c.sequence, Bytes: c.bytes, Milliseconds: c.milliseconds,
		Expires: c.expires + m.halted, Opened: c.opened, Height: h.Height, Time: now,
	}
	if c.deadline != 0 {
		out.Deadline = c.deadline + m.halted
	}
	return out
}

// channelKeys are the rows an answer about a channel rests on: its own, and that of
// how long the ledger stood still.
func channelKeys(id voucher.ChannelID) [][]byte { return [][]byte{channelKey(id), marketKey} }

// readChannel reads a channel's row.
func readChannel(s State, id voucher.ChannelID, c *channelRow) (bool, error) {
	b, err := s.Get(channelKey(id))
	if b == nil || err != nil {
		return false, err
	}
	return true, decodeChannel(b, c)
}

// Channel says where a channel stands. One that does not exist, or no longer, is a
// *Rejection that matches ErrNoChannel.
func (l *Ledger) Channel(_ context.Context, id voucher.ChannelID) (out Channel, err error) {
	now := l.now().Unix()
	err = l.snapshot(func(s rows, h head) error {
		var c channelRow
		m, err := readMarket(s)
		if err != nil {
			return err
		}
		switch found, err := readChannel(s, id, &c); {
		case err != nil:
			return err
		case !found:
			return &Rejection{Code: NoChannel}
		}
		out = c.describe(id, h, m, now)
		return nil
	})
	return out, err
}

// Channels returns up to limit channels that an account is the client or the provider
// of, closed ones included until they expire, in ascending order of IDs after the one
// given; the zero ID begins at the first.
func (l *Ledger) Channels(_ context.Context, account identity.AccountID, after voucher.ChannelID, limit int) ([]Channel, error) {
	var out []Channel
	now := l.now().Unix()
	prefix := heldKey(account, voucher.ChannelID{})[:1+identity.Size]
	var from []byte
	if !after.IsZero() {
		from = heldKey(account, after)
	}
	err := l.snapshot(func(s rows, h head) error {
		m, err := readMarket(s)
		if err != nil {
			return err
		}
		var failure error
		err = s.scan(prefix, from, func(key, _ []byte) bool {
			if len(out) >= limit {
				return false
			}
			if len(key) != len(prefix)+len(voucher.ChannelID{}) {
				return true // a channel whose ID is like the account's
			}
			id := voucher.ChannelID(key[len(prefix):])
			var c channelRow
			found, err := readChannel(s, id, &c)
			if err == nil && !found {
				err = fmt.Errorf("%w: channel %s of account %s does not exist", ErrCorrupt, id, account)
			}
			if failure = err; err != nil {
				return false
			}
			out = append(out, c.describe(id, h, m, now))
			return true
		})
		return errors.Join(failure, err)
	})
	return out, err
}

// Asks returns what is asked for a service on each node, in ascending order of nodes.
func (l *Ledger) Asks(ctx context.Context, service identity.ServiceID) ([]PostedAsk, error) {
	return allAsks(func(after identity.NodeID) (asksReply, error) { return l.asksPage(ctx, service, after) })
}

// asksPage returns the asks of a service after a node's.
func (l *Ledger) asksPage(_ context.Context, service identity.ServiceID, after identity.NodeID) (asksReply, error) {
	prefix := askReference(service, identity.NodeID{}).key()[:1+identity.Size]
	var from []byte
	if !after.IsZero() {
		from = askReference(service, after).key()
	}
	out := asksReply{Network: l.cfg.Network, Service: service, Time: l.now().Unix()}
	err := l.snapshot(func(s rows, h head) error {
		out.Height = h.Height
		var failure error
		err := s.scan(prefix, from, func(_, value []byte) bool {
			if len(out.Asks) >= maxAsksPage {
				return false
			}
			var row askRow
			if row, failure = decodeAsk(value); failure != nil {
				return false
			}
			p := PostedAsk{row.current, row.next}
			if p.Next != (voucher.Ask{}) && out.Time >= p.Next.ValidFrom {
				p = PostedAsk{Ask: p.Next}
			}
			if p.Ask.ValidTo < out.Time {
				p.Ask = voucher.Ask{}
			}
			if p.Next.ValidTo < out.Time {
				p.Next = voucher.Ask{}
			}
			if p != (PostedAsk{}) {
				out.Asks = append(out.Asks, p)
			}
			return true
		})
		return errors.Join(failure, err)
	})
	return out, err
}

// allAsks puts pages together. A service has at most so many providers that are found
// at all; a ledger that gives more is not followed for ever.
func allAsks(page func(after identity.NodeID) (asksReply, error)) ([]PostedAsk, error) {
	const most = 1024
	var out []PostedAsk
	var after identity.NodeID
	for len(out) < most {
		reply, err := page(after)
		if err != nil {
			return nil, err
		}
		for _, p := range reply.Asks {
			node := p.node()
			if after.Compare(node) >= 0 {
				return nil, fmt.Errorf("%w: asks out of order", ErrAnswer)
			}
			out, after = append(out, p), node
		}
		if len(reply.Asks) < maxAsksPage {
			break
		}
	}
	return out, nil
}

// channelsReply and asksReply are pages of lists, as the authority signs them.
type channelsReply struct {
	Network  identity.NetworkID `cbor:"1,keyasint"`
	Account  identity.AccountID `cbor:"2,keyasint"`
	After    voucher.ChannelID  `cbor:"3,keyasint"`
	Channels []Channel          `cbor:"4,keyasint"`
}

type asksReply struct {
	Network identity.NetworkID `cbor:"1,keyasint"`
	Service identity.ServiceID `cbor:"2,keyasint"`
	Asks    []PostedAsk        `cbor:"3,keyasint"`
	Height  uint64             `cbor:"4,keyasint"`
	Time    int64              `cbor:"5,keyasint"`
}

func (s *Server) channel(r *http.Request) (any, error) {
	id, err := voucher.ParseChannelID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	since, err := sinceOf(r)
	if err != nil {
		return nil, err
	}
	return s.ledger.prove(r.Context(), since, channelKeys(id), func(rows, Checkpoint) error { return nil })
}

func (s *Server) channels(r *http.Request) (any, error) {
	account, err := identity.ParseAccountID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	reply := channelsReply{Network: s.ledger.cfg.Network, Account: account}
	if after := r.URL.Query().Get("after"); after != "" {
		if reply.After, err = voucher.ParseChannelID(after); err != nil {
			return nil, reject(Malformed, "%v", err)
		}
	}
	if reply.Channels, err = s.ledger.Channels(r.Context(), account, reply.After, maxChannelsPage); err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeChannels, reply)
}

func (s *Server) asks(r *http.Request) (any, error) {
	service, err := identity.ParseServiceID(r.PathValue("service"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	var after identity.NodeID
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = identity.ParseNodeID(text); err != nil {
			return nil, reject(Malformed, "%v", err)
		}
	}
	reply, err := s.ledger.asksPage(r.Context(), service, after)
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typeAsks, reply)
}

// Channel asks where a channel stands.
func (c *Client) Channel(ctx context.Context, id voucher.ChannelID) (Channel, error) {
	before, err := c.before()
	if err != nil {
		return Channel{}, err
	}
	var out Channel
	found := false
	err = c.call(ctx, http.MethodGet, pathChannels+id.String()+since(before), nil, maxReply, func(b []byte) (err error) {
		out, found, err = c.openChannel(before, id, b)
		return err
	})
	if err == nil && !found {
		err = &Rejection{Code: NoChannel}
	}
	return out, err
}

// openChannel checks an answer about a channel: all of it follows from proved rows.
func (c *Client) openChannel(before *SignedCheckpoint, id voucher.ChannelID, b []byte) (out Channel, found bool, err error) {
	p, err := openProved(b)
	if err != nil {
		return out, false, err
	}
	cp, err := c.accept(before, p)
	if err != nil {
		return out, false, err
	}
	state, err := p.openRows(cp.Checkpoint, channelKeys(id))
	if err != nil {
		return out, false, err
	}
	m, err := readMarket(state)
	if err != nil {
		return out, false, err
	}
	var row channelRow
	if found, err = readChannel(state, id, &row); !found || err != nil {
		return out, false, err
	}
	return row.describe(id, head{Network: cp.Network, Height: cp.Height}, m, cp.Time), true, nil
}

// Channels asks for up to limit channels of an account. See Ledger.Channels.
func (c *Client) Channels(ctx context.Context, account identity.AccountID, after voucher.ChannelID, limit int) ([]Channel, error) {
	var out []Channel
	for len(out) < limit {
		var reply channelsReply
		path := pathAccounts + account.String() + "/channels"
		if !after.IsZero() {
			path += "?after=" + after.String()
		}
		err := c.call(ctx, http.MethodGet, path, nil, maxReply, func(b []byte) error {
			reply = channelsReply{}
			if err := openAnswer(typeChannels, b, c.cfg.Authorities, &reply); err != nil {
				return err
			}
			if reply.Network != c.cfg.Network || reply.Account != account || reply.After != after {
				return errors.New("channels of another network or somebody else")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, ch := range reply.Channels {
			if string(ch.ID[:]) <= string(after[:]) || ch.Network != c.cfg.Network || ch.Client != account && ch.Provider != account {
				return nil, fmt.Errorf("%w: channels out of order, or of somebody else", ErrAnswer)
			}
			after = ch.ID
		}
		out = append(out, reply.Channels[:min(len(reply.Channels), limit-len(out))]...)
		if len(reply.Channels) < maxChannelsPage {
			break
		}
	}
	return out, nil
}

// Asks asks what a service costs on each node.
func (c *Client) Asks(ctx context.Context, service identity.ServiceID) ([]PostedAsk, error) {
	return allAsks(func(after identity.NodeID) (reply asksReply, err error) {
		path := pathAsks + service.String()
		if !after.IsZero() {
			path += "?after=" + url.QueryEscape(after.String())
		}
		err = c.call(ctx, http.MethodGet, path, nil, maxReply, func(b []byte) error {
			reply = asksReply{}
			if err := openAnswer(typeAsks, b, c.cfg.Authorities, &reply); err != nil {
				return err
			}
			for _, p := range reply.Asks {
				for _, a := range []voucher.Ask{p.Ask, p.Next} {
					if a != (voucher.Ask{}) && a.Service != service {
						return errors.New("asks of another service")
					}
				}
			}
			if reply.Network != c.cfg.Network || reply.Service != service {
				return errors.New("asks of another network or service")
			}
			return nil
		})
		return reply, err
	})
}
