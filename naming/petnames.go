package naming

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// ParsePetnames reads petnames from settings: name to service ID, both as text. It
// reports every fault.
func ParsePetnames(table map[string]string) (map[name.Name]identity.ServiceID, error) {
	petnames := make(map[name.Name]identity.ServiceID, len(table))
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(table)) {
		n, err := name.Parse(key)
		if err != nil {
			errs = append(errs, fmt.Errorf("petname: %w", err))
			continue
		}
		id, err := identity.ParseServiceID(table[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("petname %s: %w", n, err))
			continue
		}
		if _, ok := petnames[n]; ok {
			errs = append(errs, fmt.Errorf("petname %s is given twice", n))
		}
		petnames[n] = id
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return petnames, nil
}
