//go:build race

package routing

// raceEnabled tells that everything takes ten times as long.
const raceEnabled = true
