//go:build !race

package sal

// raceEnabled says that the race detector distorts every measurement.
const raceEnabled = false
