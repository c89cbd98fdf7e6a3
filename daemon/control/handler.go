package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
)

// maxBody bounds every request body in bytes.
const maxBody = 1 << 20

// upgradeProtocol is the token of the Upgrade header of a raw session.
const upgradeProtocol = "scn-session"

// Backend answers the calls: the daemon.
type Backend interface {
	AccessBackend
	VerdictBackend
	DrainBackend
	LedgerBackend
	BooksBackend
	PayBackend
	InspectBackend
	InspectorBackend
	CustodyBackend
	Status(ctx context.Context) (Status, error)
	Lookup(ctx context.Context, name string) (Lookup, error)
	Ping(ctx context.Context, name string) (Ping, error)
	Serve(ctx context.Context, r ServeRequest) (Service, error)
	Unserve(ctx context.Context, name string) error
	Grant(ctx context.Context, r NameRequest) error
	Revoke(ctx context.Context, r NameRequest) error
	ShowName(ctx context.Context, name string) (Name, error)
	RegisterName(ctx context.Context, r NameRequest) (Name, error)
	TransferName(ctx context.Context, r NameRequest) (Name, error)
	AcceptName(ctx context.Context, r NameRequest) (Name, error)
	RenewName(ctx context.Context, r NameRequest) (Name, error)
	ReleaseName(ctx context.Context, r NameRequest) error
	Admit(ctx context.Context, r NameRequest) error
	// SetParameter changes a parameter of the network (founder only).
	SetParameter(ctx context.Context, r ParameterRequest) error
	Remove(ctx context.Context, r NameRequest) error
	Links(ctx context.Context) ([]Link, error)
	SetLink(ctx context.Context, r LinkRequest) error
	// Dial opens a session to a service for a client of the socket.
	Dial(ctx context.Context, name string, port uint16) (net.Conn, error)
}

// Handler serves a Backend.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", read(func(r *http.Request) (any, error) { return b.Status(r.Context()) }))
	mux.HandleFunc("GET /v1/lookup", read(func(r *http.Request) (any, error) {
		return b.Lookup(r.Context(), r.FormValue("name"))
	}))
	mux.HandleFunc("GET /v1/ping", read(func(r *http.Request) (any, error) {
		return b.Ping(r.Context(), r.FormValue("name"))
	}))
	mux.HandleFunc("GET /v1/name", read(func(r *http.Request) (any, error) {
		return b.ShowName(r.Context(), r.FormValue("name"))
	}))
	mux.HandleFunc("GET /v1/links", read(func(r *http.Request) (any, error) { return b.Links(r.Context()) }))
	mux.HandleFunc("POST /v1/link", change(func(ctx context.Context, q LinkRequest) (any, error) {
		return struct{}{}, b.SetLink(ctx, q)
	}))
	mux.HandleFunc("POST /v1/serve", change(func(ctx context.Context, q ServeRequest) (any, error) {
		return b.Serve(ctx, q)
	}))
	mux.HandleFunc("POST /v1/unserve", change(func(ctx context.Context, q NameRequest) (any, error) {
		return struct{}{}, b.Unserve(ctx, q.Name)
	}))
	mux.HandleFunc("POST /v1/network/set", change(func(ctx context.Context, q ParameterRequest) (any, error) {
		return struct{}{}, b.SetParameter(ctx, q)
	}))
	for path, call := range map[string]func(context.Context, NameRequest) error{
		"grant": b.Grant, "revoke": b.Revoke, "name/release": b.ReleaseName,
		"network/admit": b.Admit, "network/remove": b.Remove,
	} {
		mux.HandleFunc("POST /v1/"+path, change(func(ctx context.Context, q NameRequest) (any, error) {
			return struct{}{}, call(ctx, q)
		}))
	}
	for path, call := range map[string]func(context.Context, NameRequest) (Name, error){
		"register": b.RegisterName, "transfer": b.TransferName, "accept": b.AcceptName, "renew": b.RenewName,
	} {
		mux.HandleFunc("POST /v1/name/"+path, change(func(ctx context.Context, q NameRequest) (any, error) {
			return call(ctx, q)
		}))
	}
	mux.HandleFunc("POST /v1/dial", func(w http.ResponseWriter, r *http.Request) { dial(b, w, r) })
	handleAccess(mux, b)
	handleVerdicts(mux, b)
	handleDrain(mux, b)
	handleLedger(mux, b)
	handleBooks(mux, b)
	handlePay(mux, b)
	handleInspect(mux, b)
	handleInspector(mux, b)
	handleCustody(mux, b)
	return mux
}

func read(call func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(r)
		answer(w, v, err)
	}
}

func change[Q any](call func(context.Context, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			answer(w, nil, Errorf(BadRequest, "request body: %w", err))
			return
		}
		v, err := call(r.Context(), q)
		answer(w, v, err)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: Failed, Message: err.Error()}
		}
		w.WriteHeader(e.Code.status())
		v = e
	}
	_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
}

// dial turns the HTTP connection into the bytes of a session.
func dial(b Backend, w http.ResponseWriter, r *http.Request) {
	port, err := strconv.ParseUint(r.FormValue("port"), 10, 16)
	if err != nil || port == 0 || r.Header.Get("Upgrade") != upgradeProtocol {
		answer(w, nil, Errorf(BadRequest, "dial needs a port from 1 to 65535 and Upgrade: %s", upgradeProtocol))
		return
	}
	remote, err := b.Dial(r.Context(), r.FormValue("name"), uint16(port))
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer remote.Close()
	local, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer local.Close()
	_, err = io.WriteString(local, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgradeProtocol+"\r\n\r\n")
	if err != nil {
		return
	}
	Splice(remote, newMarkedConn(readerConn{local, buffered.Reader}))
}
