// Package conformance shows that what DESIGN says of the overlay is true. The
// package itself holds only tests: the import lattice and the rules of style that
// a machine can check. Its sub-packages are the proof:
//
//	netns   hosts, switches, routers and NATs out of namespaces
//	wire    a seeded bad cable in user space
//	overlay networks of scn daemons on them, and what measures silences
//	suite   real programs through real TUN devices while hosts move
//	demo    the same to watch, in two minutes
//	bench   the overlay beside wireguard-go, in one run
//	fuzz    every Fuzz function within one budget of time
//	tools   the versions of linters, in a module of their own
//
// Nothing imports conformance.
package conformance
