package replicator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/milena-kafka/milena/config"
)

// A key that a reload may change is read of the config in force, never of the one that the flow was created with.
func TestLiveKeysAreReadOfTheConfigInForce(t *testing.T) {
	live := make(map[string]bool) // by the name of the field
	for i := range reflect.TypeFor[config.Flow]().NumField() {
		field := reflect.TypeFor[config.Flow]().Field(i)
		live[field.Name] = config.IsLive(field.Tag.Get("koanf"))
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset, fixed := token.NewFileSet(), 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			key, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, ok := key.X.(*ast.SelectorExpr)
			if !ok || of.Sel.Name != "config" && of.Sel.Name != "Flow" {
				return true
			}
			if live[key.Sel.Name] {
				t.Errorf("%s: %s may change while the flow runs; read it of f.live()", fset.Position(key.Pos()), key.Sel.Name)
			}
			fixed++
			return true
		})
	}
	if fixed < 20 {
		t.Errorf("only %d keys are read: the test looks for the wrong thing", fixed)
	}
}

// Keys that no part keeps exist and are live.
func TestKeysInPlaceAreLive(t *testing.T) {
	for _, key := range inPlace {
		if !config.IsLive(key) {
			t.Errorf("%s is not a live key", key)
		}
	}
}
