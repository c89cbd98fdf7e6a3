// Package delegate asks another node to look records up in the DHT and to publish
// them there, over an ordinary session. It is for a node that reaches no DHT peer,
// as where UDP is blocked and only a relay can be spoken to, and for the moment
// before the first one answers.
//
// The other node is trusted with nothing but its effort: every value is checked by
// the asker like any stranger's, and it checks what it is given to publish. It can
// withhold, as any DHT node can.
//
// One session carries one request and its answer. All numbers are big-endian.
//
//	request:  version 1 (1) ‖ operation (1) ‖ key length (1) ‖ key ‖ value length (4) ‖ value
//	answer:   any number of   1 (1) ‖ value length (4) ‖ value
//	          and then        2 (1) ‖ status (1)
//
// A lookup has no value in the request, and better and better ones in the answer;
// whoever has enough closes the session. A publication has no value in the answer.
// Rules for adding a field: a new version; an unknown one is answered "malformed".
// Trailing bytes of a request are not read.
//
// The package knows neither sessions nor the DHT: Serve takes any net.Listener and
// Get and Put any net.Conn.
package delegate
