package delegate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"scn.alt/scn/routing/network"
)

// Limits of the messages.
const (
	// MaxKey is the longest key in bytes.
	MaxKey = 128
	// MaxValue is the largest value in bytes: a network file.
	MaxValue = network.MaxSize
	// maxValues is how many values one answer may have.
	maxValues = 64
)

// Errors of Get and Put, besides those of the connection and the context.
var (
	// ErrNotFound is returned when the other node looked and found nothing.
	ErrNotFound = errors.New("delegate: not found")
	// ErrRefused is returned when the other node does not accept the record or the
	// key.
	ErrRefused = errors.New("delegate: refused")
	// ErrUnavailable is returned when the other node could not ask, or found nobody
	// to store the record at.
	ErrUnavailable = errors.New("delegate: the other node could not do it")
	// ErrBusy is returned when this node asks more than the other one allows.
	ErrBusy = errors.New("delegate: too many requests")
	// ErrProtocol is returned for bytes that are no message of this protocol.
	ErrProtocol = errors.New("delegate: malformed message")
)

// Status is how a request ended, as it travels. Append only; an unknown one is
// read as ErrUnavailable.
type status uint8

const (
	done        status = 0
	notFound    status = 1
	refused     status = 2
	unavailable status = 3
	busy        status = 4
	malformed   status = 5
)

func (s status) err() error {
	switch s {
	case done:
		return nil
	case notFound:
		return ErrNotFound
	case refused:
		return ErrRefused
	case busy:
		return ErrBusy
	case malformed:
		return ErrProtocol
	default:
		return ErrUnavailable
	}
}

const version = 1

// operation is what a request asks for.
type operation uint8

const (
	get operation = 1
	put operation = 2
)

// request is one.
type request struct {
	operation operation
	key       string
	value     []byte
}

// size is that of the request's bytes.
func (r request) size() int { return 3 + len(r.key) + 4 + len(r.value) }

// append appends the request's bytes.
func (r request) append(b []byte) []byte {
	b = append(b, version, byte(r.operation), byte(len(r.key)))
	b = append(b, r.key...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.value)))
	return append(b, r.value...)
}

// valid reports what makes a request one that cannot be sent or answered.
func (r request) valid() error {
	switch {
	case len(r.key) == 0 || len(r.key) > MaxKey:
		return fmt.Errorf("%w: key of %d bytes", ErrProtocol, len(r.key))
	case len(r.value) > MaxValue:
		return fmt.Errorf("%w: value of %d bytes", ErrProtocol, len(r.value))
	case r.operation == get && len(r.value) > 0, r.operation == put && len(r.value) == 0:
		return fmt.Errorf("%w: value of %d bytes in operation %d", ErrProtocol, len(r.value), r.operation)
	case r.operation != get && r.operation != put:
		return fmt.Errorf("%w: operation %d", ErrProtocol, r.operation)
	}
	return nil
}

// readRequest reads one request. It allocates nothing before the length is known
// to be in bounds.
func readRequest(from io.Reader) (request, error) {
	var head [3]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return request{}, err
	}
	if head[0] != version {
		return request{}, fmt.Errorf("%w: version %d", ErrProtocol, head[0])
	}
	key := make([]byte, head[2])
	if len(key) > MaxKey {
		return request{}, fmt.Errorf("%w: key of %d bytes", ErrProtocol, len(key))
	}
	if _, err := io.ReadFull(from, key); err != nil {
		return request{}, cut(err)
	}
	value, err := readValue(from)
	if err != nil {
		return request{}, err
	}
	r := request{operation: operation(head[1]), key: string(key), value: value}
	return r, r.valid()
}

// readValue reads a length and so many bytes.
func readValue(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, cut(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxValue {
		return nil, fmt.Errorf("%w: value of %d bytes", ErrProtocol, n)
	}
	value := make([]byte, n)
	if _, err := io.ReadFull(from, value); err != nil {
		return nil, cut(err)
	}
	return value, nil
}

// The kinds of message in an answer.
const (
	valueKind byte = 1
	endKind   byte = 2
)

func appendValue(b, value []byte) []byte {
	b = append(b, valueKind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func appendEnd(b []byte, s status) []byte { return append(b, endKind, byte(s)) }

// readAnswer reads one message of an answer: a value, or the end.
func readAnswer(from io.Reader) (value []byte, s status, end bool, err error) {
	var kind [1]byte
	if _, err := io.ReadFull(from, kind[:]); err != nil {
		return nil, 0, false, cut(err)
	}
	switch kind[0] {
	case valueKind:
		value, err = readValue(from)
		return value, 0, false, err
	case endKind:
		if _, err := io.ReadFull(from, kind[:]); err != nil {
			return nil, 0, false, cut(err)
		}
		return nil, status(kind[0]), true, nil
	}
	return nil, 0, false, fmt.Errorf("%w: kind %d", ErrProtocol, kind[0])
}

// cut makes the end in the middle of a message an error.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
