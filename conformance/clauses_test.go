package conformance

import (
	"go/ast"
	"os"
	"strings"
	"testing"
)

// Reference: STYLE §8: every clause is mapped to a test or to the reason why
// there is none.
func TestClauses(t *testing.T) {
	tests := make(map[string]bool)
	for dir, files := range sources(t) {
		for _, s := range files {
			for _, d := range s.file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil {
					tests[dir+"."+f.Name.Name] = true
				}
			}
		}
	}
	text, err := os.ReadFile("testdata/clauses.txt")
	if err != nil {
		t.Fatal(err)
	}
	mapped := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 || strings.TrimSpace(parts[2]) == "" {
			t.Errorf("%q is not: source | clause | tests or - reason", line)
			continue
		}
		if strings.HasPrefix(parts[2], "- ") {
			continue
		}
		for _, name := range strings.Fields(parts[2]) {
			mapped[name] = true
			if !tests[name] {
				t.Errorf("%s: %s: there is no test %s", parts[0], parts[1], name)
			}
		}
	}
	// The suite exists to show clauses: a test of it that shows none is lost.
	for name := range tests {
		if strings.HasPrefix(name, "conformance/suite.Test") && !strings.HasSuffix(name, ".TestMain") && !mapped[name] {
			t.Errorf("%s shows no clause", name)
		}
	}
}
