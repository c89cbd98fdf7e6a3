package naming

import (
	"bufio"
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"scn.alt/scn/naming/name"
)

// maxSeenFile is the longest file that is read at the start, in bytes.
const maxSeenFile = 64 << 20

// seen remembers which names were once found registered, so that they never go
// upstream while they cannot be looked up. It is bounded: the names not asked for
// longest are forgotten first.
//
// The file is a log of lines, "+name" and "-name", the newest last. A line is
// written when a name is first seen, so a kill -9 loses none; the log is rewritten
// when it has grown to four times what it must hold.
type seen struct {
	limit int

	mu    sync.Mutex // guards below, and orders writes to the file
	names map[name.Name]*list.Element
	order *list.List // of name.Name, asked for longest ago first
	path  string
	file  *os.File // nil without a file
	lines int
}

// openSeen reads the memory from the file at path, if there is one. An empty path
// means memory only.
func openSeen(path string, limit int) (*seen, error) {
	s := &seen{limit: limit, names: make(map[name.Name]*list.Element), order: list.New(), path: path}
	if path == "" {
		return s, nil
	}
	if err := s.read(); err != nil {
		return nil, err
	}
	if err := s.rewriteLocked(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *seen) read() error {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("names once seen: %w", err)
	}
	if info.Size() > maxSeenFile {
		return fmt.Errorf("names once seen: %s has %d bytes, at most %d", s.path, info.Size(), maxSeenFile)
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("names once seen: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line := lines.Text()
		if len(line) < 2 {
			continue
		}
		// A line cut short by a crash is no name, or a harmless other one.
		n, err := name.Parse(line[1:])
		switch {
		case err != nil:
		case line[0] == '+':
			s.addLocked(n)
		case line[0] == '-':
			s.removeLocked(n)
		}
	}
	return nil // a line too long for the scanner ends the reading: it is not ours
}

// Add remembers the name.
func (s *seen) Add(n name.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.addLocked(n) {
		return nil
	}
	return s.appendLocked("+" + string(n) + "\n")
}

// Remove forgets the name: its release is authenticated.
func (s *seen) Remove(n name.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.removeLocked(n) {
		return nil
	}
	return s.appendLocked("-" + string(n) + "\n")
}

// Has reports whether the name is remembered.
func (s *seen) Has(n name.Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.names[n]
	return ok
}

// Len returns how many names are remembered.
func (s *seen) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names)
}

// Close writes the memory in its order of use.
func (s *seen) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.rewriteLocked()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return err
}

// addLocked reports whether the name was new.
func (s *seen) addLocked(n name.Name) bool {
	if e := s.names[n]; e != nil {
		s.order.MoveToBack(e)
		return false
	}
	s.names[n] = s.order.PushBack(n)
	for len(s.names) > s.limit {
		delete(s.names, s.order.Remove(s.order.Front()).(name.Name))
	}
	return true
}

func (s *seen) removeLocked(n name.Name) bool {
	e := s.names[n]
	if e == nil {
		return false
	}
	s.order.Remove(e)
	delete(s.names, n)
	return true
}

func (s *seen) appendLocked(line string) error {
	if s.file == nil {
		return nil
	}
	if s.lines > 4*len(s.names)+1024 {
		return s.rewriteLocked()
	}
	s.lines++
	if _, err := s.file.WriteString(line); err != nil {
		return fmt.Errorf("names once seen: %w", err)
	}
	return nil
}

// rewriteLocked replaces the file by one line per name and goes on with that.
func (s *seen) rewriteLocked() error {
	var b bytes.Buffer
	for e := s.order.Front(); e != nil; e = e.Next() {
		fmt.Fprintf(&b, "+%s\n", e.Value.(name.Name))
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".seen-*") // mode 0600: what was visited is private
	if err != nil {
		return fmt.Errorf("names once seen: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return errors.Join(fmt.Errorf("names once seen: %w", err), f.Close())
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.lines = f, len(s.names) // writes go on at the end of the new file
	return nil
}
