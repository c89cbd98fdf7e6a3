package routing

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"scn.alt/scn/routing/record"
)

// reserve is how far ahead of the number in use the one on disk is kept, in
// microseconds, as sequence numbers are: of several moves in a row only the first
// waits for the disk, and after a kill -9 numbering goes on above whatever was used.
const reserve = uint64(time.Minute / time.Microsecond)

// sequencer makes sequence numbers that never run backwards: not after a restart,
// a kill -9, a clock set back, nor a restored backup, whose newer records it
// learns of from the DHT.
type sequencer struct {
	path string // empty: not persisted

	mu       sync.Mutex
	last     uint64 // guarded by mu
	reserved uint64 // on disk; guarded by mu
}

// openSequencer reads the number below which everything may have been used. A
// damaged file is reported with a usable sequencer: the clock and the DHT still
// bear it up.
func openSequencer(dir string) (*sequencer, error) {
	if dir == "" {
		return &sequencer{}, nil
	}
	s := &sequencer{path: filepath.Join(dir, "sequence")}
	text, err := os.ReadFile(s.path)
	if os.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read sequence: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return s, fmt.Errorf("read sequence: %s is damaged: %w", s.path, err)
	}
	s.last, s.reserved = n, n
	return s, nil
}

// next returns a number above every one returned or learned before.
func (s *sequencer) next(now time.Time, known ...uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range known {
		s.last = max(s.last, k)
	}
	n := record.NextSequence(s.last, now)
	if n > s.reserved && s.path != "" {
		reserved := n + reserve
		if err := renameio.WriteFile(s.path, strconv.AppendUint(nil, reserved, 10), 0o600); err != nil {
			return 0, fmt.Errorf("reserve sequence: %w", err)
		}
		s.reserved = reserved
	}
	s.last = n
	return n, nil
}
