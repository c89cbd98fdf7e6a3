package address

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"scn.alt/scn/routing/identity"
)

// ErrCorrupt is returned for a journal with a bad line before its last.
var ErrCorrupt = errors.New("tun: address journal is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is one change in the journal.
type line struct {
	used    int64
	v4      netip.Addr
	service identity.ServiceID
}

func (l line) compare(other line) int {
	return cmp.Or(cmp.Compare(l.used, other.used), l.v4.Compare(other.v4), bytes.Compare(l.service[:], other.service[:]))
}

// append appends the line's text, with the line feed.
func (l line) append(b []byte) []byte {
	v4 := "-"
	if l.v4.IsValid() {
		v4 = l.v4.String()
	}
	text := fmt.Sprintf("%d %s %s", l.used, v4, l.service)
	return fmt.Appendf(b, "%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}

// parseLine reads one line without its line feed. Only the form append writes is
// accepted.
func parseLine(s string) (line, error) {
	sum, text, ok := strings.Cut(s, " ")
	if want, err := strconv.ParseUint(sum, 16, 32); !ok || err != nil || uint32(want) != crc32.Checksum([]byte(text), castagnoli) {
		return line{}, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	fields := strings.Split(text, " ")
	if len(fields) != 3 {
		return line{}, fmt.Errorf("%w: %d fields", ErrCorrupt, len(fields))
	}
	var l line
	var err error
	if l.used, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
		return line{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if fields[1] != "-" {
		if l.v4, err = netip.ParseAddr(fields[1]); err != nil || !l.v4.Is4() {
			return line{}, fmt.Errorf("%w: address %q", ErrCorrupt, fields[1])
		}
	}
	if l.service, err = identity.ParseServiceID(fields[2]); err != nil {
		return line{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if string(l.append(nil)) != s+"\n" {
		return line{}, fmt.Errorf("%w: not in its one form", ErrCorrupt)
	}
	return l, nil
}

// readJournal reads all lines. A last line that a crash cut short is left out; a
// bad line anywhere else is an error, since guessing would give addresses away twice.
func readJournal(file string) ([]line, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseJournal(file, f)
}

func parseJournal(name string, f io.Reader) ([]line, error) {
	var lines []line
	r := bufio.NewReaderSize(f, 64<<10)
	for number := 1; ; number++ {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return lines, nil // the cut-off end, or nothing
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		var l line
		if err == nil {
			l, err = parseLine(string(text[:len(text)-1]))
		}
		if err != nil {
			if _, peek := r.Peek(1); errors.Is(peek, io.EOF) && number > 1 {
				return lines, nil
			}
			return nil, fmt.Errorf("%s line %d: %w; remove the file to start with fresh addresses", name, number, err)
		}
		lines = append(lines, l)
	}
}

// journal is the open file, positioned at its end.
type journal struct {
	file  *os.File
	name  string
	lines int
	size  int64
}

// writeJournal replaces the file by one that holds just these lines, and opens it.
func writeJournal(name string, lines []line) (*journal, error) {
	j := &journal{name: name}
	if err := j.rewrite(lines); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *journal) rewrite(lines []line) error {
	var b []byte
	for _, l := range lines {
		b = l.append(b)
	}
	if err := renameio.WriteFile(j.name, b, 0o600); err != nil {
		return fmt.Errorf("write virtual addresses: %w", err)
	}
	f, err := os.OpenFile(j.name, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write virtual addresses: %w", err)
	}
	if j.file != nil {
		j.file.Close() // its content is in the new file
	}
	j.file, j.lines, j.size = f, len(lines), int64(len(b))
	return nil
}

// append writes the lines and waits until the disk has them. After a failure the
// file ends where it did before.
func (j *journal) append(lines ...line) error {
	if len(lines) == 0 {
		return nil
	}
	var b []byte
	for _, l := range lines {
		b = l.append(b)
	}
	_, err := j.file.Write(b)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write virtual addresses: %w", err), j.file.Truncate(j.size))
	}
	j.size += int64(len(b))
	j.lines += len(lines)
	return nil
}

func (j *journal) close() error { return j.file.Close() }
