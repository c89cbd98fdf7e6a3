//go:build race

package cashier

// raceEnabled says that the race detector makes everything ten times slower.
const raceEnabled = true
