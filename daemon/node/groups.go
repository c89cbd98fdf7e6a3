package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"scn.alt/scn/daemon/access"
	"scn.alt/scn/routing/identity"
)

// GroupInfo is a group and how it is known here.
type GroupInfo struct {
	Name string
	access.Group
	// Mine says that the group's key lies here.
	Mine bool
	// Fault is why its list is not believed now; nil if it is.
	Fault error
}

// Groups lists the groups that rules may name.
func (b *Rulebook) Groups() []GroupInfo {
	s := b.state.Load()
	out := make([]GroupInfo, 0, len(s.policy.Groups))
	for _, name := range slices.Sorted(maps.Keys(s.policy.Groups)) {
		g := s.book.Roster[name].Group
		g.ID = s.policy.Groups[name]
		out = append(out, GroupInfo{Name: name, Group: g, Mine: s.mine[name], Fault: s.groupFault(name, b.now())})
	}
	return out
}

// Group returns one group.
func (b *Rulebook) Group(name string) (GroupInfo, error) {
	for _, g := range b.Groups() {
		if g.Name == name {
			return g, nil
		}
	}
	return GroupInfo{}, fmt.Errorf("%w: group %q: \"scn group show\" lists them", ErrNotFound, name)
}

// CreateGroup makes a group with a key of its own.
func (b *Rulebook) CreateGroup(name string, members []access.Who, life time.Duration) (GroupInfo, error) {
	b.change.Lock()
	defer b.change.Unlock()
	policy := b.Policy()
	if err := access.CheckGroupName(name); err != nil {
		return GroupInfo{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if _, ok := policy.Groups[name]; ok {
		return GroupInfo{}, fmt.Errorf("%w: group %s is there already", ErrRequest, name)
	}
	key, err := identity.GenerateKey(rand.Reader)
	if err != nil {
		return GroupInfo{}, err
	}
	list, err := b.sign(key, access.Group{ID: key.Group()}, members, nil, life)
	if err != nil {
		return GroupInfo{}, err
	}
	if err := b.dir.write(groupKey(name), key.MarshalPEM(), 0o600); err != nil {
		return GroupInfo{}, err
	}
	policy.Groups[name] = key.Group()
	return b.writeGroup(name, list, policy)
}

// ChangeGroup adds and removes members of a group whose key lies here, and signs the
// list anew for life from now.
func (b *Rulebook) ChangeGroup(name string, add, remove []access.Who, life time.Duration) (GroupInfo, error) {
	b.change.Lock()
	defer b.change.Unlock()
	g, err := b.Group(name)
	if err != nil {
		return g, err
	}
	key, err := b.dir.readKey(groupKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return g, fmt.Errorf("group %s: %w: it was imported; only its owner can change it", name, ErrNotOwned)
	}
	if err != nil {
		return g, err
	}
	if g.Fault != nil && !errors.Is(g.Fault, access.ErrGroupExpired) {
		return g, fmt.Errorf("%w: the list to change is not to be believed: %w", ErrRequest, g.Fault)
	}
	list, err := b.sign(key, g.Group, add, remove, life)
	if err != nil {
		return g, err
	}
	return b.writeGroup(name, list, b.Policy())
}

// sign makes the next list of a group.
func (b *Rulebook) sign(key identity.PrivateKey, g access.Group, add, remove []access.Who, life time.Duration) ([]byte, error) {
	if life == 0 {
		life = defaultGroupLife
	}
	if life < time.Minute || life > maxGroupLife {
		return nil, fmt.Errorf("%w: a list is valid for 1m to %s, not %s", ErrRequest, maxGroupLife, life)
	}
	g, err := g.With(add, remove)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	now := b.now()
	// As in the records: the time, or one more than the last where that is greater.
	g.Sequence = max(g.Sequence+1, uint64(max(now.UnixMicro(), 0)))
	g.NotAfter = now.Add(life).Unix()
	return g.Seal(key)
}

func (b *Rulebook) writeGroup(name string, list []byte, p access.Policy) (GroupInfo, error) {
	if err := b.dir.write(groupList(name), list, 0o644); err != nil {
		return GroupInfo{}, err
	}
	if err := b.write(p); err != nil {
		return GroupInfo{}, err
	}
	return b.Group(name)
}

// ImportGroup takes a list that somebody else signed. The first one fixes the
// group's key, later ones must be of the same key and no older. want, unless zero,
// is the key the list must be of.
func (b *Rulebook) ImportGroup(name string, list []byte, want identity.GroupID) (GroupInfo, error) {
	b.change.Lock()
	defer b.change.Unlock()
	if err := access.CheckGroupName(name); err != nil {
		return GroupInfo{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	g, err := access.OpenGroup(list)
	if err != nil {
		return GroupInfo{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	known, err := b.dir.knownGroups()
	if err != nil {
		return GroupInfo{}, err
	}
	policy := b.Policy()
	if pinned, ok := policy.Groups[name]; ok {
		if err := g.Check(pinned, 0, b.now()); errors.Is(err, access.ErrGroupAltered) {
			return GroupInfo{}, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	if want.IsZero() {
		want = g.ID
	}
	if err := g.Check(want, known[g.ID.String()], b.now()); err != nil {
		return GroupInfo{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	policy.Groups[name] = g.ID
	return b.writeGroup(name, list, policy)
}

// ExportGroup returns the signed list for others to import.
func (b *Rulebook) ExportGroup(name string) ([]byte, error) {
	g, err := b.Group(name)
	if err != nil {
		return nil, err
	}
	if g.Fault != nil {
		return nil, fmt.Errorf("%w: group %s: %w", ErrRequest, name, g.Fault)
	}
	return readBounded(b.dir.join(groupList(name)), access.MaxGroupFile)
}

// ForgetGroup removes a group that no rule names. Its key, if it lies here, is kept
// beside as NAME.key.old.
func (b *Rulebook) ForgetGroup(name string) error {
	b.change.Lock()
	defer b.change.Unlock()
	if _, err := b.Group(name); err != nil {
		return err
	}
	policy := b.Policy()
	delete(policy.Groups, name)
	if err := policy.Validate(); err != nil {
		return fmt.Errorf("%w: rules name it: %w", ErrRequest, err)
	}
	if err := b.write(policy); err != nil {
		return err
	}
	return b.dir.retireGroup(name)
}
