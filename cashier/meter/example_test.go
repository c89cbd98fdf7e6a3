package meter_test

import (
	"fmt"

	"scn.alt/scn/cashier/meter"
)

// A provider says in words why it does not go on with a channel.
func ExampleRefusal() {
	fmt.Println(meter.RefusedExpired, meter.RefusedDeposit)
	// Output: expired deposit used up
}
