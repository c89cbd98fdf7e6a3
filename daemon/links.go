package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"scn.alt/scn/daemon/control"
	"scn.alt/scn/daemon/node"
	"scn.alt/scn/sal"
	"scn.alt/scn/sal/underlay"
)

// duplicateKey is the one key of [links] that is no pattern.
const duplicateKey = "duplicate"

// LinkSettings say what this host's interfaces may be used for: patterns of interface
// names, and their policies (prefer, none, metered, backup, off). The key "duplicate"
// (true or false, default false) sends small packets over two links at once.
type LinkSettings map[string]any

// linkRules are LinkSettings that were read.
type linkRules struct {
	duplicate bool
	policies  map[string]underlay.LinkPolicy // by pattern
}

// rules reads the settings, all faults at once.
func (s LinkSettings) rules() (linkRules, error) {
	r := linkRules{policies: map[string]underlay.LinkPolicy{}}
	var errs []error
	for _, pattern := range slices.Sorted(maps.Keys(s)) {
		value := s[pattern]
		if pattern == duplicateKey {
			on, ok := value.(bool)
			if !ok {
				errs = append(errs, fmt.Errorf("links.duplicate: %v is neither true nor false", value))
			}
			r.duplicate = on
			continue
		}
		text, ok := value.(string)
		if !ok {
			errs = append(errs, fmt.Errorf("links.%q: %v is no policy in quotes", pattern, value))
			continue
		}
		policy, err := underlay.ParseLinkPolicy(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("links.%q: %q is none of prefer, none, metered, backup and off", pattern, text))
		}
		if _, err := filepath.Match(pattern, "eth0"); err != nil || pattern == "" || len(pattern) > 64 {
			errs = append(errs, fmt.Errorf("links.%q is no pattern of interface names", pattern))
		}
		r.policies[pattern] = policy
	}
	return r, errors.Join(errs...)
}

// of returns an interface's policy, and the pattern that says so: the name itself
// before patterns, the longest pattern before others, and then the first by the
// alphabet. An empty pattern means that nothing was said.
func (r linkRules) of(name string) (policy underlay.LinkPolicy, pattern string) {
	for p, v := range r.policies {
		if p == name {
			return v, p
		}
		if ok, err := filepath.Match(p, name); err != nil || !ok {
			continue
		}
		if len(p) > len(pattern) || len(p) == len(pattern) && p < pattern {
			policy, pattern = v, p
		}
	}
	return policy, pattern
}

// linkTable is what holds of links now: the settings, and over them what "scn link
// set" said, which it keeps in a file.
type linkTable struct {
	file string // constant

	mu    sync.Mutex // guards below, and the file
	rules linkRules
	set   map[string]underlay.LinkPolicy // by interface
}

// maxLinkSet bounds the interfaces that have a policy set at run time.
const maxLinkSet = 256

// readLinkTable reads what was set at run time; a missing file is an empty one.
func readLinkTable(file string, rules linkRules) (*linkTable, error) {
	t := &linkTable{file: file, rules: rules, set: map[string]underlay.LinkPolicy{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	var texts map[string]string
	if err := json.Unmarshal(b, &texts); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it, and say \"scn link set\" again", file, err)
	}
	var errs []error
	for name, text := range texts {
		policy, err := underlay.ParseLinkPolicy(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", file, name, err))
		}
		t.set[name] = policy
	}
	return t, errors.Join(errs...)
}

// policy is what the session layer asks.
func (t *linkTable) policy(name string) underlay.LinkPolicy {
	policy, _ := t.of(name)
	return policy
}

// of returns an interface's policy, and who said so.
func (t *linkTable) of(name string) (policy underlay.LinkPolicy, source string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.set[name]; ok {
		return p, "scn link set"
	}
	policy, pattern := t.rules.of(name)
	if pattern == "" {
		return policy, "default"
	}
	return policy, fmt.Sprintf("settings, %q", pattern)
}

// replace takes over new settings. What was set at run time stays.
func (t *linkTable) replace(rules linkRules) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = rules
}

// settingsWord takes a policy set at run time back.
const settingsWord = "settings"

// change sets an interface's policy and writes it down.
func (t *linkTable) change(name, word string) error {
	if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("%w: %q is no interface's name", node.ErrRequest, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	set := maps.Clone(t.set)
	if word == settingsWord {
		delete(set, name)
	} else {
		policy, err := underlay.ParseLinkPolicy(word)
		if err != nil {
			return fmt.Errorf("%w: %q is none of prefer, none, metered, backup, off and %s", node.ErrRequest, word, settingsWord)
		}
		set[name] = policy
	}
	if len(set) > maxLinkSet {
		return fmt.Errorf("%w: more than %d interfaces with a policy of their own: use a pattern in [links] of the settings", node.ErrRequest, maxLinkSet)
	}
	texts := map[string]string{}
	for k, p := range set {
		texts[k] = p.String()
	}
	b, err := json.MarshalIndent(texts, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(t.file, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the policy of %s: %w", name, err)
	}
	t.set = set
	return nil
}

// reloadLinks takes over [links] of new settings.
func (d *daemon) reloadLinks(s LinkSettings) error {
	rules, err := s.rules()
	if err != nil {
		return err
	}
	d.links.replace(rules)
	d.node.Sessions().SetLinkPolicy(d.links.policy)
	d.node.Sessions().SetDuplicate(rules.duplicate)
	return nil
}

// Links implements control.Backend.
func (b backend) Links(context.Context) ([]control.Link, error) {
	links, err := b.d.node.Sessions().Links()
	if err != nil {
		return nil, err
	}
	out := make([]control.Link, 0, len(links))
	for _, l := range links {
		out = append(out, b.d.linkOf(l))
	}
	return out, nil
}

// SetLink implements control.Backend.
func (b backend) SetLink(_ context.Context, q control.LinkRequest) error {
	if err := b.d.links.change(q.Interface, q.Policy); err != nil {
		return explain(err)
	}
	b.d.node.Sessions().SetLinkPolicy(b.d.links.policy)
	b.d.log.Info("link policy set", "link", q.Interface, "policy", q.Policy)
	return nil
}

func (d *daemon) linkOf(l sal.LinkInfo) control.Link {
	_, source := d.links.of(l.Interface)
	return control.Link{
		Interface: l.Interface, Addresses: append([]netip.Addr{}, l.Addresses...),
		Policy: l.Policy.String(), Source: source, State: string(l.State), Why: l.Why, Ignored: l.Ignored,
		Peers: l.Peers, RTTMS: milliseconds(l.RTT), BytesSent: l.BytesSent, BytesReceived: l.BytesReceived,
	}
}
