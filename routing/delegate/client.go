package delegate

import (
	"context"
	"fmt"
	"iter"
	"net"
)

// Get asks the node at the other end of a fresh session for the records under a
// key, and yields them, better ones as they come; the last element is an error
// when the lookup did not end well. It closes the session in any case.
func Get(ctx context.Context, session net.Conn, key string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		defer session.Close()
		stop, err := ask(ctx, session, request{operation: get, key: key})
		if err != nil {
			yield(nil, err)
			return
		}
		defer stop()
		for range maxValues + 1 {
			value, s, end, err := readAnswer(session)
			switch {
			case err != nil:
				yield(nil, ended(ctx, err))
				return
			case end && s != done:
				yield(nil, s.err())
				return
			case end:
				return
			case !yield(value, nil):
				return
			}
		}
		yield(nil, fmt.Errorf("%w: more than %d values", ErrProtocol, maxValues))
	}
}

// Put asks the node at the other end of a fresh session to publish a record, and
// waits until it did. It closes the session in any case.
func Put(ctx context.Context, session net.Conn, key string, value []byte) error {
	defer session.Close()
	stop, err := ask(ctx, session, request{operation: put, key: key, value: value})
	if err != nil {
		return err
	}
	defer stop()
	_, s, end, err := readAnswer(session)
	switch {
	case err != nil:
		return ended(ctx, err)
	case !end:
		return fmt.Errorf("%w: a value in the answer to a publication", ErrProtocol)
	}
	return s.err()
}

// ask sends a request. Until stop is called the session ends with ctx.
func ask(ctx context.Context, session net.Conn, r request) (stop func() bool, err error) {
	if err := r.valid(); err != nil {
		return nil, err
	}
	stop = context.AfterFunc(ctx, func() { _ = session.Close() })
	if _, err := session.Write(r.append(make([]byte, 0, r.size()))); err != nil {
		stop()
		return nil, ended(ctx, err)
	}
	if half, ok := session.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // nothing more to say; a failure shows in the answer
	}
	return stop, nil
}

// ended prefers the context's error, which is what closed the session.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
