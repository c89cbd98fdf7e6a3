package proofofservice

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"scn.alt/scn/proofofservice/evidence"
)

// errWrong is returned where an answer is not what the owner published.
var errWrong = errors.New("proofofservice: not what the owner published")

// look is one visit's open session, and what was seen so far.
type look struct {
	session  Session
	reader   *bufio.Reader
	content  *Content // nil if none is known
	row      evidence.Row
	answered bool // seen.Latency is that of an answer, not of opening the session
	hold     time.Duration
	interval time.Duration
	now      func() time.Time

	seen Sighting
}

// kinds is how each kind of probe looks at an open session. A kind that needs content
// does what Reach does where there is none.
var kinds = [evidence.Kinds]func(l *look, ctx context.Context) error{
	evidence.Reach:       (*look).first,
	evidence.Latency:     (*look).first,
	evidence.Throughput:  (*look).burst,
	evidence.Correctness: (*look).block,
	evidence.Mobility:    (*look).stay,
	evidence.Price:       (*look).buy,
}

// leaf returns the number of the block the plan asks for.
func (l *look) leaf() int { return int(l.row.Leaf % uint64(len(l.content.Leaves))) }

// first asks for one block and takes the time until the answer begins. Without
// content the time is that of opening the session.
func (l *look) first(context.Context) error {
	if l.content == nil {
		return nil
	}
	_, err := l.fetch(l.leaf(), l.leaf())
	if errors.Is(err, errWrong) {
		return nil // another kind looks at that, and this one can say no such thing
	}
	return err
}

// block checks one block.
func (l *look) block(context.Context) error {
	if l.content == nil {
		return nil
	}
	_, err := l.fetch(l.leaf(), l.leaf())
	return err
}

// burst times as many blocks as make up the size planned, from the answer's first
// byte to its last, and checks each: who sends rubbish fast is not fast.
func (l *look) burst(context.Context) error {
	if l.content == nil {
		return errors.New("proofofservice: throughput without content")
	}
	from, spent := l.leaf(), time.Duration(0)
	var sum int64
	for sum < int64(l.row.Size) {
		need := int((int64(l.row.Size) - sum + int64(l.content.Block) - 1) / int64(l.content.Block))
		to := min(from+need, len(l.content.Leaves)) - 1
		before := l.seen.Bytes
		took, err := l.fetch(from, to)
		if err != nil {
			return err
		}
		spent += took
		sum += l.seen.Bytes - before
		from = 0 // content smaller than the burst is read again from its beginning
	}
	l.seen.Rate = int64(float64(sum) / max(spent, time.Microsecond).Seconds())
	return nil
}

// A mobility probe asks for a piece of so many bytes at a time, and at most for most
// in all.
const (
	piece = 512
	most  = 48 << 10
)

// stay asks for small pieces all the time, and takes the longest silence.
func (l *look) stay(ctx context.Context) error {
	if l.content == nil {
		return errors.New("proofofservice: mobility without content")
	}
	first, end := l.content.span(l.leaf())
	end = min(end, first+piece-1)
	until, last := l.now().Add(l.hold), l.now()
	for l.now().Before(until) && l.seen.Bytes < most {
		_, err := l.get(first, end, func(body io.Reader) error {
			n, err := io.Copy(io.Discard, io.LimitReader(body, end-first+1))
			l.seen.Bytes += n
			return err
		})
		if err != nil {
			l.seen.Gap = max(l.seen.Gap, l.now().Sub(last))
			return err
		}
		l.seen.Gap = max(l.seen.Gap, l.now().Sub(last)-l.interval)
		last = l.now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.interval):
		}
	}
	return nil
}

// buy transfers something that costs. The bill is looked at when the session is over.
func (l *look) buy(ctx context.Context) error { return l.first(ctx) }

// fetch asks for the blocks from to to, both included, checks them, and returns how
// long the answer took from its first byte to its last.
func (l *look) fetch(from, to int) (time.Duration, error) {
	first, _ := l.content.span(from)
	_, last := l.content.span(to)
	var wrong error
	took, err := l.get(first, last, func(body io.Reader) error {
		buffer := make([]byte, l.content.Block)
		for i := from; i <= to; i++ {
			a, b := l.content.span(i)
			data := buffer[:b-a+1]
			n, err := io.ReadFull(body, data)
			l.seen.Bytes += int64(n)
			if err != nil {
				return err
			}
			if !l.content.holds(i, data) && wrong == nil {
				wrong = fmt.Errorf("%w: block %d", errWrong, i)
			}
		}
		return nil
	})
	return took, cmp.Or(err, wrong)
}

// get asks for the bytes from first to last, both included, and has the answer read.
func (l *look) get(first, last int64, read func(body io.Reader) error) (time.Duration, error) {
	request := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: l.content.Path}, Host: l.content.Host,
		Header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", first, last)}, "Accept": {"*/*"}},
	}
	asked := l.now()
	if err := request.Write(l.session); err != nil {
		return 0, err
	}
	if _, err := l.reader.Peek(1); err != nil {
		return 0, noEOF(err)
	}
	begun := l.now()
	if !l.answered {
		l.seen.Latency, l.answered = max(begun.Sub(asked), time.Microsecond), true
	}
	response, err := http.ReadResponse(l.reader, request)
	if err != nil {
		return 0, noEOF(err)
	}
	if response.StatusCode != http.StatusPartialContent || response.ContentLength != last-first+1 {
		// What nobody asked for is not read: it may be large, and the session is of no
		// more use.
		return 0, fmt.Errorf("%w: status %d, %d bytes", errWrong, response.StatusCode, response.ContentLength)
	}
	if err := read(response.Body); err != nil {
		return 0, noEOF(err)
	}
	return l.now().Sub(begun), response.Body.Close()
}

// noEOF makes an end that comes too early an error of its own.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
