// Package verdict holds sessions until a program or the user has decided about them.
//
// # Model
//
// A Gate answers the question whether a peer may open a session to a port of a
// service. Everybody who has the same question shares one answer: the first asks the
// program, and the user may answer as long as nobody has. Without an answer in time
// the session fails, and the question stays among those missed, so that the user can
// decide for the next try. An answer may be remembered for a while.
//
//	Hold ──► remembered? ──yes──► answer
//	   └──► question ──► program, user, or the time ──► answer, or ErrTimeout
//
// A program that sleeps, crashes, floods its output or never ends holds up its own
// question alone: each has a process of its own, killed with all its children when the
// time is over. A program that fails decides nothing in anybody's favour: deny.
//
// # The program
//
// It gets one JSON object on standard input,
//
//	{"question":"q7","service":"files","service_id":"…","node_id":"…","account_id":"…",
//	 "port":80,"protocol":"tcp","deadline":"2026-01-02T15:04:05Z"}
//
// (account_id only if the node has proved one), and answers with one on standard
// output:
//
//	{"verdict":"allow","cache":"10m","reason":"known guest"}
//
// verdict is allow, deny, pay (refuse, and say that payment is asked), wake (allow,
// and run the command of "wake" if the target does not answer) or ask (leave it to the
// user). cache is how long the answer is good for the same node, account and port.
//
// # Bounds
//
// The sessions held, in all, per service and per peer; the size of an answer; the
// answers remembered; the questions missed. Beyond them a session is refused as over
// capacity.
//
// # Concurrency
//
// A Gate may be used by many goroutines. Close ends everything and waits.
package verdict
