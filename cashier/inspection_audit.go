package cashier

import (
	"errors"
	"fmt"

	"scn.alt/scn/routing/identity"
)

// sumInspection compares the sums of inspection with the account that holds its money
// and with the rows that are counted.
func sumInspection(s rows, network identity.NetworkID) error {
	row, _, err := readInspection(s)
	if err != nil {
		return err
	}
	pool, err := readCounters(s, InspectionAccount(network))
	if err != nil {
		return err
	}
	count := func(prefix ...byte) (n uint32) {
		err = errors.Join(err, s.scan(prefix, nil, func(_, _ []byte) bool {
			n++
			return true
		}))
		return n
	}
	inspectors, slots := count(inspectorPrefix, 'i'), count(inspectorPrefix, 's')
	providers, earners := count(rosterPrefix, 's'), count(rosterPrefix, 'm')
	if err != nil {
		return err
	}
	if pool.Balance() != row.Pool || inspectors != row.Inspectors || slots != inspectors || providers != row.Providers || earners != providers {
		return fmt.Errorf("%w: inspection is %+v, its account has %d, there are %d inspectors in %d slots and %d providers of whom %d earn",
			ErrCorrupt, row, pool.Balance(), inspectors, slots, providers, earners)
	}
	return nil
}
