package replicator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// A partition's cursor, outbox and progress keep their invariants only if nobody else assigns their fields.
func TestPartsOfAPartitionAreAssignedByTheirOwnMethods(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	parsed := make(map[string]*ast.File)
	owners := make(map[string]string) // file by field
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if parsed[name], err = parser.ParseFile(fset, name, nil, 0); err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed[name], func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "cursor" && spec.Name.Name != "outbox" && spec.Name.Name != "progress" {
				return true
			}
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				for _, id := range field.Names {
					owners[id.Name] = name
				}
			}
			return false
		})
	}
	if len(owners) < 25 {
		t.Fatalf("%d fields: the parts of a partition are not found", len(owners))
	}
	assigned := func(name string, e ast.Expr) {
		s, ok := e.(*ast.SelectorExpr)
		if !ok {
			return
		}
		of, ok := s.X.(*ast.Ident)
		isPartition := ok && (of.Name == "p" || of.Name == "q")
		if part, ok := s.X.(*ast.SelectorExpr); ok {
			isPartition = part.Sel.Name == "cursor" || part.Sel.Name == "outbox" || part.Sel.Name == "progress" || part.Sel.Name == "partition"
		}
		if owner := owners[s.Sel.Name]; isPartition && owner != "" && owner != name {
			t.Errorf("%s assigns %s, which belongs to %s", fset.Position(s.Pos()), s.Sel.Name, owner)
		}
	}
	for name, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					assigned(name, e)
				}
			case *ast.IncDecStmt:
				assigned(name, n.X)
			}
			return true
		})
	}
}
