package cashier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
)

// Scripts tell the life of names in words. Each line is a command, the line after
// it, beginning with =, what the ledger answers; # begins a comment.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, ledger: open(t, func(c *Config) { c.Parameters.MaxNames = 2 })}
			answer := ""
			for i, line := range strings.Split(string(text), "\n") {
				switch line = strings.TrimSpace(line); {
				case line == "" || line[0] == '#':
				case line[0] == '=':
					if want := strings.TrimSpace(line[1:]); answer != want {
						t.Errorf("%s:%d: %q, want %q", path, i+1, answer, want)
					}
				default:
					answer = s.run(strings.Fields(line))
				}
			}
			if err := s.ledger.Verify(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

type script struct {
	t      *testing.T
	ledger *Ledger
}

var cast = map[string]identity.PrivateKey{
	"founder": founder, "alice": alice, "bob": bob, "carol": key(7), "files": files, "mail": mail,
}

// called returns who a key belongs to.
func called(id [identity.Size]byte) string {
	for n, k := range cast {
		if k.Public() == id {
			return n
		}
	}
	return "nobody"
}

func (s *script) run(words []string) string {
	s.t.Helper()
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	ctx := s.t.Context()
	switch words[0] {
	case "show":
		return s.show(name.Name(at(1)))
	case "names":
		var out []string
		for _, n := range must[[]OwnedName](s.t)(s.ledger.Names(ctx, cast[at(1)].Account(), "", 100)) {
			out = append(out, string(n.Name))
		}
		return strings.Join(out, " ")
	}
	w, n := wallet(cast[words[0]], s.ledger), name.Name(at(2))
	var receipt Receipt
	var err error
	switch at(1) {
	case "register":
		receipt, err = w.Register(ctx, n, cast[at(4)])
	case "update":
		receipt, err = w.Update(ctx, n, cast[at(4)])
	case "offer":
		var to identity.AccountID
		if at(4) != "nobody" {
			to = cast[at(4)].Account()
		}
		receipt, err = w.Offer(ctx, n, to)
	case "accept":
		receipt, err = w.Accept(ctx, n, cast[at(4)])
	case "release":
		receipt, err = w.Release(ctx, n)
	case "parameters":
		most, _ := strconv.ParseUint(at(2), 10, 32)
		receipt, err = w.SetParameters(ctx, Parameters{MaxNames: uint32(most)})
	default:
		s.t.Fatalf("unknown command %q", words)
	}
	if err == nil {
		return fmt.Sprintf("ok block %d", receipt.Height)
	}
	r, ok := errors.AsType[*Rejection](err)
	if !ok {
		s.t.Fatal(err)
	}
	switch r.Code {
	case NameTaken:
		return fmt.Sprintf("%s: %s, %s", r.Code, called(r.Owner), called(r.Service))
	case NotOwner:
		return fmt.Sprintf("%s: %s", r.Code, called(r.Owner))
	default:
		return r.Code.String()
	}
}

func (s *script) show(n name.Name) string {
	s.t.Helper()
	a := must[Answer](s.t)(s.ledger.Lookup(s.t.Context(), n))
	switch {
	case a.Signed == nil:
		return "free"
	case !a.Registered:
		return fmt.Sprintf("free, released in block %d", a.Record.Height)
	case !a.Offered.IsZero():
		return fmt.Sprintf("%s, %s, offered to %s, changed in block %d",
			called(a.Record.Owner), called(a.Record.Service), called(a.Offered), a.Record.Height)
	}
	return fmt.Sprintf("%s, %s, changed in block %d", called(a.Record.Owner), called(a.Record.Service), a.Record.Height)
}
