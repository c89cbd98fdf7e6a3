package proofofservice

import (
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/proofofservice/evidence"
)

// ErrState is returned for a stored state that is not one of this epoch's plan.
var ErrState = errors.New("proofofservice: bad state of an epoch")

// stateVersion is the first byte of a state.
const stateVersion = 1

// State returns what is kept of an epoch, so that a program that is started anew
// goes on with it:
//
//	version u8 ‖ epoch u64 ‖ stage u8 ‖ count u16 ‖
//	count · (done u8 ‖ outcome 16 ‖ length u16 ‖ detail)
//
// It is written before a message that rests on it is posted.
func (c *Core) State(epoch uint64) ([]byte, error) {
	w := c.find(epoch)
	if w == nil {
		return nil, fmt.Errorf("epoch %d: %w", epoch, ErrUnknown)
	}
	b := binary.BigEndian.AppendUint64([]byte{stateVersion}, w.Frame.Epoch)
	b = append(b, byte(w.stage))
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.rows)))
	for i := range w.rows {
		finished := byte(0)
		if w.progress[i] == done {
			finished = 1
		}
		b = w.outcomes[i].Append(append(b, finished))
		detail := w.details[i].Append(nil)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(detail))), detail...)
	}
	return b, nil
}

// saved is a state that was read.
type saved struct {
	epoch    uint64
	stage    stage
	finished []bool
	outcomes []evidence.Outcome
	details  []evidence.Detail
}

// parseState reads a state.
func parseState(b []byte) (saved, error) {
	if len(b) < 12 || b[0] != stateVersion || stage(b[9]) >= stages {
		return saved{}, fmt.Errorf("%w: its head", ErrState)
	}
	s := saved{epoch: binary.BigEndian.Uint64(b[1:]), stage: stage(b[9])}
	n := int(binary.BigEndian.Uint16(b[10:]))
	b = b[12:]
	if n > evidence.MaxRows || len(b) < n*(1+evidence.OutcomeSize+2) {
		return saved{}, fmt.Errorf("%w: %d rows", ErrState, n)
	}
	for i := range n {
		const head = 1 + evidence.OutcomeSize + 2
		if len(b) < head || b[0] > 1 {
			return saved{}, fmt.Errorf("%w: row %d", ErrState, i)
		}
		o, err := evidence.ParseOutcome(b[1 : 1+evidence.OutcomeSize])
		if err != nil {
			return saved{}, fmt.Errorf("%w: row %d: %w", ErrState, i, err)
		}
		size := int(binary.BigEndian.Uint16(b[head-2:]))
		if size > evidence.MaxDetail || len(b) < head+size {
			return saved{}, fmt.Errorf("%w: row %d", ErrState, i)
		}
		d, err := evidence.ParseDetail(b[head : head+size])
		if err != nil || int(d.Row) != i {
			return saved{}, fmt.Errorf("%w: row %d: %w", ErrState, i, err)
		}
		s.finished, s.outcomes, s.details = append(s.finished, b[0] == 1), append(s.outcomes, o), append(s.details, d)
		b = b[head+size:]
	}
	if len(b) > 0 {
		return saved{}, fmt.Errorf("%w: %d bytes left", ErrState, len(b))
	}
	return s, nil
}

// Restore goes on with an epoch that was begun before a restart; Begin was called
// for it. Visits that were under way are omitted: what came of them is not known.
func (c *Core) Restore(state []byte) error {
	s, err := parseState(state)
	if err != nil {
		return err
	}
	w := c.find(s.epoch)
	if w == nil {
		return fmt.Errorf("epoch %d: %w", s.epoch, ErrUnknown)
	}
	if len(s.outcomes) != len(w.rows) {
		return fmt.Errorf("%w: %d rows, the plan has %d", ErrState, len(s.outcomes), len(w.rows))
	}
	for i, d := range s.details {
		if d.Key != w.details[i].Key && d.Key != c.rowKey(w, i, "again") {
			return fmt.Errorf("%w: row %d is of another plan", ErrState, i)
		}
	}
	for i := range w.rows {
		switch {
		case s.finished[i]:
			w.progress[i] = done
		case s.details[i].Start != 0:
			w.progress[i] = done // under way when the program ended
			s.details[i] = w.details[i]
			s.outcomes[i] = evidence.Outcome{}
		default:
			continue
		}
		w.outcomes[i], w.details[i] = s.outcomes[i], s.details[i]
	}
	w.stage = s.stage
	return nil
}
