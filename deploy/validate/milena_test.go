package validate_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// bin is the folder of the binary; TestMain creates and deletes it.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "milena-validate"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(bin)
	os.Exit(code)
}

// buildMilena builds the binary of the checkout around this module.
var buildMilena = sync.OnceValue(func() error {
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "milena"), "./cmd/milena")
	build.Dir = "../.."
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	return nil
})

// milena is the path of the binary.
func milena(t *testing.T) string {
	t.Helper()
	if err := buildMilena(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bin, "milena")
}
