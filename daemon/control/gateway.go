package control

import "net/netip"

// Gateway is how devices behind the daemon's host use the overlay.
type Gateway struct {
	Interfaces []string       `json:"interfaces"`
	Networks   []netip.Prefix `json:"networks"`
	// Devices have flows open now.
	Devices int `json:"devices"`
	// Packets came from devices; Refused flows no rule allowed, Limited flows were beyond
	// what one device may have.
	Packets uint64 `json:"packets"`
	Refused uint64 `json:"refused"`
	Limited uint64 `json:"limited"`
}
