package cashier

import (
	"encoding/binary"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// namesModel is the life of names written down as plainly as possible: maps, no lists
// of what is due, no signatures.
type namesModel struct {
	time    int64
	height  uint64
	index   uint32
	p       Parameters
	money   map[identity.AccountID]int
	commits map[modelCommit]*modelCommitted
	names   map[name.Name]*modelLease
	// Of the block.
	touched map[name.Name]bool
	reveals map[name.Name]modelReveal
}

type modelCommit struct {
	owner identity.AccountID
	n     name.Name
	salt  byte
}

type modelCommitted struct {
	deposit  int
	time     int64
	place    placeRow
	revealed bool
}

type modelLease struct {
	owner, offered identity.AccountID
	until          int64
}

type modelReveal struct {
	place placeRow
	owner identity.AccountID
	rent  int
}

func (m *namesModel) over(t int64) bool { return t>>dueShift < m.time>>dueShift }

// begin does what the time does: nothing is cleared before its 16 seconds are over.
func (m *namesModel) begin(now int64) {
	m.time, m.height, m.index = now, m.height+1, 0
	m.touched, m.reveals = map[name.Name]bool{}, map[name.Name]modelReveal{}
	for key, c := range m.commits {
		if m.over(c.time + commitLife) {
			if !c.revealed {
				m.money[founder.Account()] += c.deposit
			}
			delete(m.commits, key)
		}
	}
	maps.DeleteFunc(m.names, func(_ name.Name, l *modelLease) bool { return m.over(l.until + m.p.NameGrace + 1) })
}

func (m *namesModel) clone() *namesModel {
	c := *m
	c.money, c.touched, c.reveals = maps.Clone(m.money), maps.Clone(m.touched), maps.Clone(m.reveals)
	c.commits, c.names = map[modelCommit]*modelCommitted{}, map[name.Name]*modelLease{}
	for k, v := range m.commits {
		copied := *v
		c.commits[k] = &copied
	}
	for k, v := range m.names {
		copied := *v
		c.names[k] = &copied
	}
	return &c
}

func (m *namesModel) phase(n name.Name) NamePhase {
	l := m.names[n]
	switch {
	case l == nil || m.time > l.until+m.p.NameGrace:
		return NameFree
	case m.time <= l.until:
		return NameHeld
	case m.time <= l.until+30*day:
		return NameExpired
	}
	return NameSuspended
}

func (m *namesModel) count(a identity.AccountID) (n uint32) {
	for _, l := range m.names {
		if l.owner == a {
			n++
		}
	}
	return n
}

func (m *namesModel) pay(a identity.AccountID, amount int) Code {
	if a != founder.Account() && m.money[a] < amount {
		return InsufficientFunds
	}
	m.money[a] -= amount
	m.money[founder.Account()] += amount
	return Accepted
}

// lease gives a lease, and takes the rent.
func (m *namesModel) lease(payer identity.AccountID, n name.Name, l *modelLease, from, term int64) (int, Code) {
	rates := map[int]int{3: int(m.p.RentThree), 4: int(m.p.RentFour)}
	rate, short := rates[len(n)]
	if !short {
		rate = int(m.p.Rent)
	}
	until := from + term
	if term == 0 {
		until = m.time + MaxTerm
		if rate > 0 {
			until = min(until, from+year)
		}
	}
	if until > m.time+MaxTerm || until <= from || until <= m.time {
		return 0, BadTerm
	}
	rent := (rate*int(until-from) + year - 1) / year
	if code := m.pay(payer, rent); code != Accepted {
		return 0, code
	}
	l.until = until
	return rent, Accepted
}

func (m *namesModel) register(who identity.AccountID, n name.Name, term int64) (int, Code) {
	switch {
	case m.touched[n] && m.names[n] != nil:
		return 0, NameTaken
	case m.touched[n]:
		return 0, NameBusy
	case m.count(who) >= m.p.MaxNames:
		return 0, TooManyNames
	}
	l := &modelLease{owner: who}
	rent, code := m.lease(who, n, l, m.time, term)
	m.names[n], m.touched[n] = l, true
	return rent, code
}

func (m *namesModel) execute(who identity.AccountID, op Operation) Code {
	before := m.clone()
	code := m.operate(who, op)
	if code != Accepted {
		*m = *before
		return code
	}
	m.index++
	return code
}

func (m *namesModel) operate(who identity.AccountID, op Operation) Code {
	n, _ := nameOf(op)
	phase, l := m.phase(n), m.names[n]
	if phase == NameFree {
		l = nil
	}
	switch op := op.(type) {
	case CommitName:
		key := modelCommit{who, name.Name(op.Hash[1:4]), op.Hash[0]}
		if m.commits[key] != nil {
			return CommitExists
		}
		deposit := int(m.p.CommitDeposit)
		if m.money[who] < deposit {
			return InsufficientFunds
		}
		m.money[who] -= deposit
		m.commits[key] = &modelCommitted{deposit: deposit, time: m.time, place: placeRow{m.height, m.index}}
		return Accepted
	case Register:
		switch {
		case l != nil:
			return NameTaken
		case m.p.RevealDelay > 0:
			return CommitFirst
		}
		delete(m.names, n)
		_, code := m.register(who, n, op.Term)
		return code
	case RevealName:
		c := m.commits[modelCommit{who, n[:3], op.Salt[0]}]
		switch {
		case c == nil || c.revealed:
			return NoCommit
		case m.time > c.time+commitLife:
			return CommitLapsed
		case m.time < c.time+m.p.RevealDelay || m.height <= c.place.Height:
			return CommitImmature
		}
		if rival, ok := m.reveals[n]; ok && c.place.before(rival.place) {
			delete(m.names, n)
			delete(m.touched, n)
			m.money[founder.Account()] -= rival.rent
			m.money[rival.owner] += rival.rent
		} else if l != nil {
			return NameTaken
		} else {
			delete(m.names, n)
		}
		rent, code := m.register(who, n, op.Term)
		m.money[who] += c.deposit
		c.revealed = true
		m.reveals[n] = modelReveal{c.place, who, rent}
		return code
	case RenewName:
		switch {
		case l == nil:
			return NotRegistered
		case phase != NameHeld && l.owner != who:
			return NotOwner
		}
		_, code := m.lease(who, n, l, l.until, op.Term)
		return code
	case Accept:
		switch {
		case l == nil:
			return NotRegistered
		case l.offered != who:
			return NotOffered
		case phase != NameHeld:
			return LeaseEnded
		case m.touched[n]:
			return NameBusy
		case m.count(who) >= m.p.MaxNames:
			return TooManyNames
		}
		l.owner, l.offered, m.touched[n] = who, identity.AccountID{}, true
		return Accepted
	}
	switch {
	case l == nil:
		return NotRegistered
	case l.owner != who:
		return NotOwner
	case m.touched[n]:
		return NameBusy
	}
	_, releases := op.(Release)
	offer, offers := op.(Offer)
	switch {
	case releases:
		delete(m.names, n)
	case phase != NameHeld:
		return LeaseEnded
	case offers:
		l.offered = offer.To
	default:
		l.offered = identity.AccountID{}
	}
	m.touched[n] = true
	return Accepted
}

// anyNameOperation draws one. A commit is drawn by name and salt, which stand in its
// hash for the model; commitOf makes the real one of it.
func anyNameOperation(t *rapid.T) Operation {
	n := rapid.SampledFrom([]name.Name{"aaa", "bbbb", "ccccc"}).Draw(t, "name")
	salt := rapid.ByteRange(1, 2).Draw(t, "salt")
	term := rapid.SampledFrom([]int64{0, MinTerm, year, MaxTerm}).Draw(t, "term")
	switch rapid.SampledFrom([]Kind{
		KindCommitName, KindCommitName, KindRevealName, KindRevealName, KindRevealName, KindRegister, KindRenewName, KindUpdate, KindOffer, KindAccept, KindRelease,
	}).Draw(t, "kind") {
	case KindCommitName:
		var h Hash
		h[0] = salt
		copy(h[1:], n)
		return CommitName{h}
	case KindRevealName:
		return RevealName{Name: n, Salt: Salt{salt}, Service: files.Service(), Term: term}
	case KindRegister:
		return Register{Name: n, Service: files.Service(), Term: term}
	case KindRenewName:
		return RenewName{n, term}
	case KindUpdate:
		return Update{Name: n, Service: mail.Service()}
	case KindOffer:
		return Offer{n, rapid.SampledFrom([]identity.PrivateKey{alice, bob, key(7)}).Draw(t, "to").Account()}
	case KindAccept:
		return Accept{Name: n, Service: mail.Service()}
	default:
		return Release{n}
	}
}

// real puts the hash of a commit in the place of what the model needs of it.
func realOperation(who identity.AccountID, op Operation) Operation {
	c, ok := op.(CommitName)
	if !ok {
		return op
	}
	n := name.Name(c.Hash[1:])
	for i, b := range c.Hash[1:] {
		if b == 0 {
			n = name.Name(c.Hash[1 : 1+i])
			break
		}
	}
	return CommitName{CommitHash(network, who, n, Salt{c.Hash[0]})}
}

// The machine and the model agree on every operation about names, on every name, and
// on what everybody has.
func TestNamesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultParameters()
		p.MaxNames, p.NameGrace = 2, 40*day
		p.CommitDeposit = rapid.SampledFrom([]Parameters{{CommitDeposit: 0}, {CommitDeposit: 5}}).Draw(t, "deposit").CommitDeposit
		p.RevealDelay = rapid.SampledFrom([]int64{0, 60}).Draw(t, "delay")
		if rapid.Bool().Draw(t, "rents") {
			p.RentThree, p.RentFour, p.Rent = 90, 40, 7
		}
		people := []identity.PrivateKey{alice, bob, key(7)}
		var balances []GenesisBalance
		m := &namesModel{
			time: epoch.Unix(), p: p, money: map[identity.AccountID]int{}, commits: map[modelCommit]*modelCommitted{}, names: map[name.Name]*modelLease{},
		}
		for _, who := range people {
			balances = append(balances, GenesisBalance{who.Account(), 300})
			m.money[who.Account()] = 300
		}
		state, app := begun(t, p, balances...)
		sequence := uint64(0)
		block := func(ops int) {
			m.begin(m.time)
			var txs []Transaction
			var want []Code
			for range ops {
				who, op := rapid.SampledFrom(people).Draw(t, "who").Account(), anyNameOperation(t)
				sequence++
				tx := Transaction{Account: who, Network: network, Sequence: sequence, Operation: realOperation(who, op), signed: []byte{1}}
				binary.BigEndian.PutUint64(tx.id[:], sequence)
				txs, want = append(txs, tx), append(want, m.execute(who, op))
			}
			out, err := Apply(state, Header{Version: RulesVersion, Network: network, Height: m.height, Time: m.time, AppHash: app}, txs)
			if err != nil {
				t.Fatal(err)
			}
			_ = state.put(out.Changes)
			for i, r := range out.Results {
				got := Accepted
				if r.Rejection != nil {
					got = r.Rejection.Code
				}
				if got != want[i] {
					t.Fatalf("%T %+v of %s: %s, the model says %s", txs[i].Operation, txs[i].Operation, txs[i].Account, got, want[i])
				}
			}
		}
		for range 25 {
			// Long waits are made of empty blocks, as many as the lists need.
			wait := rapid.SampledFrom([]int64{0, 0, 1, 15, 61, 61, 3600, day, 27 * day, 31 * day, 45 * day}).Draw(t, "wait")
			for wait > 0 {
				step := min(wait, day)
				wait, m.time = wait-step, m.time+step
				block(0)
			}
			block(rapid.IntRange(1, 4).Draw(t, "operations"))
			m.compare(t, state)
		}
	})
}

func (m *namesModel) compare(t *rapid.T, state memory) {
	deposits := 0
	for _, c := range m.commits {
		if !c.revealed {
			deposits += c.deposit
		}
	}
	m.money[NamesAccount(network)] = deposits
	for id, want := range m.money {
		c, err := readCounters(state, id)
		if err != nil || int(c.Balance()) != want {
			t.Fatalf("%s has %d, %v; the model says %d", id, c.Balance(), err, want)
		}
	}
	ends, err := leasesOf(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []name.Name{"aaa", "bbbb", "ccccc"} {
		var row nameRow
		exists, err := read(state, nameKey(n), &row)
		if err != nil {
			t.Fatal(err)
		}
		phase, want := NameFree, m.phase(n)
		if exists {
			phase = ends.phase(&row, m.time)
		}
		l := m.names[n]
		if phase != want || want != NameFree && (row.Owner != l.owner || row.Offered != l.offered || row.Lease != l.until) {
			t.Fatalf("%s: %s %+v, the model says %s %+v", n, phase, row, want, l)
		}
	}
	for _, who := range []identity.PrivateKey{alice, bob, key(7)} {
		var row accountRow
		if _, err := read(state, accountKey(who.Account()), &row); err != nil || row.Names != m.count(who.Account()) {
			t.Fatalf("%s has %d names, %v; the model says %d", who.Account(), row.Names, err, m.count(who.Account()))
		}
	}
}
