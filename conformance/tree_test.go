package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of the product's module, and root where it is.
const (
	module = "scn.alt/scn"
	root   = ".."
)

// listed is what go list tells of a package.
type listed struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// short returns the path within the module, and whether it is in the module.
func short(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// packages lists our own packages.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// source is one parsed file.
type source struct {
	path  string // from the root
	lines int
	test  bool
	file  *ast.File
}

// sources parses every Go file of the module, grouped by directory.
func sources(t *testing.T) map[string][]source {
	t.Helper()
	tree := make(map[string][]source)
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "tools") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(relative))
		tree[dir] = append(tree[dir], source{
			path:  filepath.ToSlash(relative),
			lines: files.Position(file.FileEnd).Line,
			test:  strings.HasSuffix(name, "_test.go"),
			file:  file,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// directories returns the keys in order, so that failures are reported in one.
func directories(tree map[string][]source) []string {
	var dirs []string
	for d := range tree {
		dirs = append(dirs, d)
	}
	slices.Sort(dirs)
	return dirs
}

// matches reports whether a path is the pattern, or below it when the pattern
// ends in "/...".
func matches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}
