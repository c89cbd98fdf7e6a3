package access

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"scn.alt/scn/routing/identity"
)

// MaxPolicy bounds the rules file in bytes.
const MaxPolicy = 1 << 20

// Policy is what the rules file says. Its text is TOML:
//
//	[groups]
//	staff = "ID of the group"
//
//	[services]
//	files = [
//	  "allow group:staff 443/tcp",
//	  "deny node:ID # lost laptop",
//	]
type Policy struct {
	// Groups are the groups' keys by their local names.
	Groups map[string]identity.GroupID
	// Services are the rules by the services' names.
	Services map[string]Rules
}

// ErrPolicy is returned for a rules file that cannot be read.
var ErrPolicy = errors.New("access: bad rules file")

// ParsePolicy reads a rules file and reports all its faults together, contradictions
// and groups nobody knows included. Names of services are not judged.
func ParsePolicy(text []byte) (Policy, error) {
	if len(text) > MaxPolicy {
		return Policy{}, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(text), MaxPolicy)
	}
	var file struct {
		Groups   map[string]string   `toml:"groups"`
		Services map[string][]string `toml:"services"`
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return Policy{}, explainTOML(err)
	}
	p := Policy{Groups: map[string]identity.GroupID{}, Services: map[string]Rules{}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(file.Groups)) {
		id, err := identity.ParseGroupID(file.Groups[name])
		if err = errors.Join(CheckGroupName(name), err); err != nil {
			errs = append(errs, fmt.Errorf("groups.%s: %w", clip(name), err))
		}
		p.Groups[name] = id
	}
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		rules, err := ParseRules(file.Services[name])
		if err != nil {
			errs = append(errs, within("services."+clip(name), err))
		}
		p.Services[name] = rules
	}
	errs = append(errs, p.missingGroups())
	return p, errors.Join(errs...)
}

func explainTOML(err error) error {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		errs := make([]error, 0, len(strict.Errors))
		for _, e := range strict.Errors {
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("%w: line %d: unknown key %q: the file has [groups] and [services]", ErrPolicy, row, strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	case errors.As(err, &decode):
		row, column := decode.Position()
		return fmt.Errorf("%w: line %d, column %d: %s", ErrPolicy, row, column, decode.Error())
	}
	return fmt.Errorf("%w: %w", ErrPolicy, err)
}

// within puts a place before each line of a joined error.
func within(place string, err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return fmt.Errorf("%s: %w", place, err)
	}
	list := many.Unwrap()
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = fmt.Errorf("%s: %w", place, e)
	}
	return errors.Join(errs...)
}

// Validate reports every fault, as ParsePolicy does.
func (p Policy) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		if err := p.Services[name].Validate(); err != nil {
			errs = append(errs, within("services."+name, err))
		}
	}
	return errors.Join(append(errs, p.missingGroups())...)
}

// missingGroups reports the groups that rules name and nobody knows.
func (p Policy) missingGroups() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		for i, r := range p.Services[name] {
			if _, ok := p.Groups[r.Who.Group]; r.Who.Kind == OneGroup && !ok {
				errs = append(errs, fmt.Errorf("services.%s: rule %d: %w: %q: make it (scn group create %s) or import it (scn group import %s FILE)",
					name, i+1, ErrGroupMissing, r.Who.Group, r.Who.Group, r.Who.Group))
			}
		}
	}
	return errors.Join(errs...)
}

// Clone returns a copy whose maps may be changed.
func (p Policy) Clone() Policy {
	out := Policy{Groups: maps.Clone(p.Groups), Services: maps.Clone(p.Services)}
	if out.Groups == nil {
		out.Groups = map[string]identity.GroupID{}
	}
	if out.Services == nil {
		out.Services = map[string]Rules{}
	}
	return out
}

// Text returns the rules file, which ParsePolicy reads again.
func (p Policy) Text() []byte {
	var b bytes.Buffer
	b.WriteString("# Who may use this node's services; \"scn access --help\" tells of the rules.\n" +
		"# The scn access and scn group commands write this file anew: notes of rules stay,\n" +
		"# other comments do not. After a change by hand: kill -HUP the daemon.\n")
	if len(p.Groups) > 0 {
		b.WriteString("\n[groups]\n")
		for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
			fmt.Fprintf(&b, "%s = %q\n", name, p.Groups[name])
		}
	}
	b.WriteString("\n[services]\n")
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		fmt.Fprintf(&b, "%q = [\n", name)
		for _, text := range p.Services[name].Texts() {
			fmt.Fprintf(&b, "  %q,\n", text)
		}
		b.WriteString("]\n")
	}
	return b.Bytes()
}
