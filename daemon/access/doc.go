// Package access decides who may use a service: rules, the groups they name, and
// the reason for each decision.
//
// # Model
//
// A Book holds the rules of every service. A rule is one line of text,
//
//	ACTION WHO [PORTS] [# note]
//
//	allow  all
//	allow  group:staff            443/tcp,8000-8100   # the office
//	allow  account:ID             tcp
//	ask    node:ID
//	deny   node:ID
//
// where ACTION is allow, deny or ask (hold the session until a program or the user
// has decided), WHO is all, a node, an account or a group, and PORTS are numbers,
// ranges or protocols; without them the rule is for every port. A session is
// decided thus:
//
//  1. A deny rule that matches decides, wherever it stands. The first such is named.
//  2. Else the first allow or ask rule that matches decides.
//  3. Else nobody may: the default is deny.
//
// # What cannot be believed
//
// A Group is a list of nodes and accounts, signed by the group's key, numbered and
// with a last day. One that is altered, expired, older than what was known, or
// missing lets nobody in; and since nobody can tell whom it lists, a deny rule for
// it matches everybody. In the same way a deny rule for an account matches a node
// that shows no account: keeping silent must not open a door. What denies by ID
// alone is weak where strangers are allowed, for keys cost nothing; deny by default
// and allow by name.
//
// A node shows its account by a Binding, signed by the account's key and naming
// the node, in the first words of each connection (Hello). It does not expire: it
// is worth nothing on any other node, and the account's key lies on this one.
//
// # What it does not do
//
// It does no I/O, reads no clock and starts no goroutine. Files are the business of
// package node, and so is ending the sessions that new rules forbid.
//
// # Concurrency
//
// Values are not changed after they are made; a Book may be used by many
// goroutines.
package access
