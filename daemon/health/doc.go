// Package health watches whether the targets of a service work.
//
// # Model
//
// A Check is what is tried: a TCP connection, an HTTP request, or a command. A Monitor
// tries it at an interval and counts, as HAProxy does: Fall failures in a row make a
// healthy service fail, Rise successes in a row make it healthy again; the very first
// try decides alone. What to do about it is the business of package node.
//
//	tcp              every stream target accepts a connection
//	tcp:PORT         that one does
//	http:/path       the first TCP target answers GET with a status below 400
//	http:PORT/path   that one does
//	exec:COMMAND     the shell command ends with code 0
//
// # Concurrency
//
// A Tracker belongs to one goroutine; a Monitor may be asked by many.
package health
