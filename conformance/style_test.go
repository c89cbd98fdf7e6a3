package conformance

import (
	"go/ast"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// maxLines is the length at which a hand-written file is refused.
const maxLines = 1000

// Reference: STYLE §2.
func TestFilesAreShort(t *testing.T) {
	tree := sources(t)
	for _, dir := range directories(tree) {
		for _, s := range tree[dir] {
			if s.lines > maxLines && !ast.IsGenerated(s.file) {
				t.Errorf("%s has %d lines; at more than %d it is split", s.path, s.lines, maxLines)
			}
		}
	}
}

// Reference: STYLE §2: exactly one package comment per directory.
func TestPackageComments(t *testing.T) {
	tree := sources(t)
	for _, dir := range directories(tree) {
		var with []string
		code := false
		for _, s := range tree[dir] {
			if s.test {
				continue
			}
			code = true
			if s.file.Doc == nil {
				continue
			}
			with = append(with, s.path)
			text := s.file.Doc.Text()
			want := "Package " + s.file.Name.Name + " "
			if s.file.Name.Name == "main" {
				want = "Command " + path.Base(dir) + " "
			}
			if !strings.HasPrefix(text, want) {
				first, _, _ := strings.Cut(text, "\n")
				t.Errorf("%s: the package comment begins with %q, it should with %q", s.path, first, want)
			}
		}
		if code && len(with) != 1 {
			t.Errorf("%s has %d package comments %v, it should have one", dir, len(with), with)
		}
	}
}

// withoutExample are packages with nothing a program could call.
var withoutExample = map[string]string{
	"conformance":       "tests only",
	"conformance/suite": "tests only",
}

// Reference: STYLE §10: examples are the manual.
func TestEveryPackageHasAnExample(t *testing.T) {
	tree := sources(t)
	for _, dir := range directories(tree) {
		code, example := false, false
		for _, s := range tree[dir] {
			code = code || !s.test && s.file.Name.Name != "main"
			for _, d := range s.file.Decls {
				f, ok := d.(*ast.FuncDecl)
				example = example || ok && s.test && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Example")
			}
		}
		if code && !example && withoutExample[dir] == "" {
			t.Errorf("%s has no Example", dir)
		}
	}
}

// notFuzzed are parsers that no byte from outside reaches, with the reason.
var notFuzzed = map[string]string{}

// Reference: STYLE §8: every parser has a Fuzz. What is found: a function whose
// name begins with parse, decode or unmarshal and that takes bytes or a string
// must be reached from a Fuzz function of its package, by names.
func TestParsersAreFuzzed(t *testing.T) {
	tree := sources(t)
	for _, dir := range directories(tree) {
		if strings.HasPrefix(dir, "conformance") {
			continue // nothing hostile there
		}
		calls := make(map[string][]string) // function → names in its body
		var parsers, fuzzers []string
		for _, s := range tree[dir] {
			if s.file.Name.Name == "main" {
				continue
			}
			for _, d := range s.file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				name := f.Name.Name
				calls[name] = append(calls[name], names(f.Body)...)
				switch {
				case s.test && strings.HasPrefix(name, "Fuzz"):
					fuzzers = append(fuzzers, name)
				case !s.test && isParser(f):
					parsers = append(parsers, name)
				}
			}
		}
		reached := reach(calls, fuzzers)
		for _, p := range parsers {
			if !reached[p] && notFuzzed[dir+"."+p] == "" {
				t.Errorf("%s: no Fuzz function reaches %s", dir, p)
			}
		}
	}
}

func isParser(f *ast.FuncDecl) bool {
	name := strings.ToLower(f.Name.Name)
	if !slices.ContainsFunc([]string{"parse", "decode", "unmarshal"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return false
	}
	if len(f.Type.Params.List) == 0 {
		return false
	}
	switch p := f.Type.Params.List[0].Type.(type) {
	case *ast.Ident:
		return p.Name == "string"
	case *ast.ArrayType:
		element, ok := p.Elt.(*ast.Ident)
		return ok && p.Len == nil && element.Name == "byte"
	}
	return false
}

// names returns every identifier in a body, also those after a dot: methods are
// followed by name alone.
func names(body *ast.BlockStmt) []string {
	var list []string
	ast.Inspect(body, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			list = append(list, id.Name)
		}
		return true
	})
	return list
}

func reach(calls map[string][]string, from []string) map[string]bool {
	seen := make(map[string]bool)
	for len(from) > 0 {
		name := from[len(from)-1]
		from = from[:len(from)-1]
		if !seen[name] {
			seen[name] = true
			from = append(from, calls[name]...)
		}
	}
	return seen
}

// Reference: STYLE §5: every goroutine has an owner that waits for it.
func TestNoBareGoroutines(t *testing.T) {
	tree := sources(t)
	for _, dir := range directories(tree) {
		for _, s := range tree[dir] {
			if s.test {
				continue
			}
			ast.Inspect(s.file, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s has a bare go statement; use sync.WaitGroup.Go or an errgroup", s.path)
				}
				return true
			})
		}
	}
}

// Reference: STYLE §1: a thing with no home needs a better name.
func TestNoDrawers(t *testing.T) {
	drawers := []string{"util", "utils", "common", "helpers", "misc", "base", "types", "pkg", "internal"}
	for dir := range sources(t) {
		for part := range strings.SplitSeq(dir, "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("%s: a package named %s says nothing", dir, part)
			}
		}
	}
}

// Reference: DESIGN §1: what the root holds.
func TestRoot(t *testing.T) {
	folders := []string{"sal", "routing", "naming", "proofofservice", "cashier", "tun", "daemon", "conformance"}
	files := []string{"go.mod", "go.sum", "Makefile", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == "bin" {
			continue // dot files, and what make builds
		}
		found[name] = true
		if e.IsDir() && !slices.Contains(folders, name) || !e.IsDir() && !slices.Contains(files, name) {
			t.Errorf("%s has no place in the root", name)
		}
	}
	for _, name := range slices.Concat(folders, files) {
		if !found[name] {
			t.Errorf("%s is missing from the root", name)
		}
	}
}
