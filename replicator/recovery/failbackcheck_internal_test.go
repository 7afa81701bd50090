package recovery

import (
	"os"
	"path/filepath"
	"testing"
)

// A file that cannot be created is refused before anything is begun, and looking leaves nothing.
func TestCheckFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.Symlink(filepath.Join(folder, "nowhere"), filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Result{"new": OK, "link": Refuse, "no-folder/new": Refuse, "link/new": Refuse} {
		f := failbackCheck{o: Options{Diverged: DivergedOptions{File: filepath.Join(folder, name)}}}
		f.checkFile(nil)
		if len(f.rows) != 1 || f.rows[0].Result != want {
			t.Errorf("%s: %+v", name, f.rows)
		}
	}
	if list, err := os.ReadDir(folder); err != nil || len(list) != 1 {
		t.Errorf("%v: %v", list, err)
	}
}
