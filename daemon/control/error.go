package control

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is a stable reason for a failed call. Append only.
type Code string

// The codes, each with the command's exit code beside it.
const (
	// Failed is any failure without a code of its own (1).
	Failed Code = "failed"
	// BadRequest is a call the daemon cannot make sense of (2).
	BadRequest Code = "bad-request"
	// NotRunning is returned by the Client when nothing answers the socket (3).
	NotRunning Code = "not-running"
	// NotFound is a name, service or ID nobody knows (4).
	NotFound Code = "not-found"
	// Refused is a name somebody else holds, or a peer that said no (5).
	Refused Code = "refused"
	// Unreachable is a peer or authority that did not answer in time (6).
	Unreachable Code = "unreachable"
)

// Error is a failed call. Its message says what to do.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Errorf makes an Error with a code and a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Errorf(format, args...).Error()}
}

// ExitCode returns the command's exit code for err: 0 for nil, 1 for an error
// without a code.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *Error
	if !errors.As(err, &e) {
		return 1
	}
	switch e.Code {
	case BadRequest:
		return 2
	case NotRunning:
		return 3
	case NotFound:
		return 4
	case Refused:
		return 5
	case Unreachable:
		return 6
	default:
		return 1
	}
}

func (c Code) status() int {
	switch c {
	case BadRequest:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Refused:
		return http.StatusForbidden
	case Unreachable:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
