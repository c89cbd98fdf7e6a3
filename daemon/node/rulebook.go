package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Files of the rules, in the node's directory.
const (
	accessFile      = "access.toml"
	groupsDir       = "groups"
	knownGroupsFile = "groups.json" // in the state folder: the newest number of each group
)

// How long a list is believed after it was signed.
const (
	defaultGroupLife = 365 * 24 * time.Hour
	maxGroupLife     = 10 * 365 * 24 * time.Hour
)

// Rulebook keeps a node's access rules and groups on disk, and decides by them. The
// daemon has one; without a daemon, OpenRulebook makes one of the directory. Its
// methods may be called concurrently.
type Rulebook struct {
	dir     Directory       // constant, as all of this block
	self    identity.NodeID // is never judged
	now     func() time.Time
	changed func() // after a change has taken effect

	change sync.Mutex // one change at a time
	state  atomic.Pointer[rules]
}

// rules are one state of the rulebook; it is not changed.
type rules struct {
	policy access.Policy
	book   access.Book
	mine   map[string]bool // groups whose key lies here
}

// OpenRulebook reads the rules of a directory on which no daemon runs. A group that
// cannot be believed is no error: Faults tells of it.
func OpenRulebook(d Directory) (*Rulebook, error) {
	key, err := d.NodeKey()
	if err != nil {
		return nil, err
	}
	b := newRulebook(d, key.Node(), time.Now, func() {})
	return b, b.Reload()
}

func newRulebook(d Directory, self identity.NodeID, now func() time.Time, changed func()) *Rulebook {
	b := &Rulebook{dir: d, self: self, now: now, changed: changed}
	b.state.Store(&rules{policy: access.Policy{}.Clone()})
	return b
}

// CheckAccess reads the rules file and the groups, and reports every fault of
// either: rules stop the daemon from starting, groups do not.
func (d Directory) CheckAccess(now time.Time) (ruleFaults, groupFaults error) {
	state, err := d.readRules(now)
	if err != nil {
		return err, nil
	}
	return nil, state.faults(now)
}

// Reload reads the files again. If the rules are faulty, the old ones stay.
func (b *Rulebook) Reload() error {
	b.change.Lock()
	defer b.change.Unlock()
	return b.reload()
}

func (b *Rulebook) reload() error {
	state, err := b.dir.readRules(b.now())
	if err != nil {
		return err
	}
	b.state.Store(&state)
	b.changed()
	return b.dir.noteGroups(state.book.Roster)
}

// Book returns what decides now.
func (b *Rulebook) Book() *access.Book { return &b.state.Load().book }

// Policy returns the rules as they stand in the file.
func (b *Rulebook) Policy() access.Policy { return b.state.Load().policy.Clone() }

// Faults returns what keeps groups from being believed, nil if nothing does.
func (b *Rulebook) Faults() error { return b.state.Load().faults(b.now()) }

// readRules reads and verifies everything.
func (d Directory) readRules(now time.Time) (rules, error) {
	text, err := readBounded(d.join(accessFile), access.MaxPolicy)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return rules{}, err
	}
	policy, err := access.ParsePolicy(text)
	if err != nil {
		return rules{}, fmt.Errorf("%s:\n%w", d.join(accessFile), err)
	}
	known, err := d.knownGroups()
	if err != nil {
		return rules{}, err
	}
	s := rules{policy: policy, book: access.Book{Services: policy.Services, Roster: access.Roster{}}, mine: map[string]bool{}}
	for name, id := range policy.Groups {
		s.book.Roster[name] = d.readGroup(name, id, known[id.String()], now)
		_, err := d.readKey(groupKey(name))
		s.mine[name] = err == nil
	}
	return s, nil
}

func groupList(name string) string { return filepath.Join(groupsDir, name+".group") }
func groupKey(name string) string  { return filepath.Join(groupsDir, name+".key") }

// readGroup reads one list. Expiry is not judged here: it comes with time.
func (d Directory) readGroup(name string, id identity.GroupID, known uint64, now time.Time) access.Membership {
	b, err := readBounded(d.join(groupList(name)), access.MaxGroupFile)
	if errors.Is(err, fs.ErrNotExist) {
		return access.Membership{Fault: fmt.Errorf("%w: %s is not there", access.ErrGroupMissing, d.join(groupList(name)))}
	}
	if err != nil {
		return access.Membership{Fault: err}
	}
	g, err := access.OpenGroup(b)
	if err == nil {
		err = g.Check(id, known, now)
	}
	if errors.Is(err, access.ErrGroupExpired) {
		err = nil // the book finds that out whenever it decides
	}
	if err != nil {
		return access.Membership{Group: access.Group{ID: id}, Fault: err}
	}
	return access.Membership{Group: g}
}

func (s *rules) faults(now time.Time) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.book.Roster)) {
		if err := s.groupFault(name, now); err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *rules) groupFault(name string, now time.Time) error {
	m, ok := s.book.Roster[name]
	switch {
	case !ok:
		return access.ErrGroupMissing
	case m.Fault != nil:
		return m.Fault
	}
	return m.Group.Check(s.policy.Groups[name], 0, now)
}

// knownGroups reads the newest number known of each group, by ID.
func (d Directory) knownGroups() (map[string]uint64, error) {
	path := filepath.Join(stateDir, knownGroupsFile)
	b, err := readBounded(d.join(path), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]uint64{}, nil
	}
	if err != nil {
		return nil, err
	}
	known := map[string]uint64{}
	if err := json.Unmarshal(b, &known); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it if every group's list is the newest", d.join(path), err)
	}
	return known, nil
}

// noteGroups remembers the newest numbers, so that an older list is refused.
func (d Directory) noteGroups(roster access.Roster) error {
	known, err := d.knownGroups()
	if err != nil {
		return err
	}
	news := false
	for _, m := range roster {
		if id := m.Group.ID.String(); m.Fault == nil && m.Group.Sequence > known[id] {
			known[id], news = m.Group.Sequence, true
		}
	}
	if !news {
		return nil
	}
	b, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	return d.write(filepath.Join(stateDir, knownGroupsFile), append(b, '\n'), 0o600)
}

// Edit changes the rules of one service; it must not keep or change its argument.
type Edit func(access.Rules) (access.Rules, error)

// SetRules makes the rules of a service what edit returns of those there are. They
// are in force, and on disk, when it returns.
func (b *Rulebook) SetRules(nm name.Name, edit Edit) (access.Rules, error) {
	b.change.Lock()
	defer b.change.Unlock()
	policy, news, err := b.edited(nm, edit)
	if err == nil && news {
		err = b.write(policy)
	}
	return policy.Services[string(nm)], err
}

// CheckRules reports what would keep SetRules from succeeding.
func (b *Rulebook) CheckRules(nm name.Name, edit Edit) error {
	b.change.Lock()
	defer b.change.Unlock()
	_, _, err := b.edited(nm, edit)
	return err
}

// edited returns the policy after an edit, and whether it differs. change is held.
func (b *Rulebook) edited(nm name.Name, edit Edit) (_ access.Policy, news bool, err error) {
	policy := b.Policy()
	old, had := policy.Services[string(nm)]
	next, err := edit(slices.Clone(old))
	if err != nil {
		return access.Policy{}, false, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	policy.Services[string(nm)] = next
	if err := policy.Validate(); err != nil {
		return access.Policy{}, false, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return policy, !had || !slices.Equal(old.Texts(), next.Texts()), nil
}

// ForgetRules removes a service's entry: nobody may then use it.
func (b *Rulebook) ForgetRules(nm name.Name) error {
	b.change.Lock()
	defer b.change.Unlock()
	policy := b.Policy()
	if _, ok := policy.Services[string(nm)]; !ok {
		return fmt.Errorf("%w: there are no rules for %s", ErrNotFound, nm)
	}
	delete(policy.Services, string(nm))
	return b.write(policy)
}

// write puts the rules on disk and in force.
func (b *Rulebook) write(p access.Policy) error {
	if err := b.dir.write(accessFile, p.Text(), 0o600); err != nil {
		return err
	}
	return b.reload()
}
