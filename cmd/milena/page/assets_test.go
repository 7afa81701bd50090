package page_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Names of topics and groups come from other clusters. Scripts of the page therefore have no way to make markup or code of a text; and a policy that
// forbids it all the same would only turn such a mistake into a page that does not work.
func TestAssetsMakeNoMarkupOfText(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://`)
	n := 0
	err := fs.WalkDir(os.DirFS("assets"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, "vendor/") {
			return err
		}
		content, err := os.ReadFile("assets/" + path)
		n++
		for _, found := range forbidden.FindAllString(strings.ReplaceAll(string(content), "http://www.w3.org/", ""), -1) {
			t.Errorf("assets/%s has %q", path, found)
		}
		return err
	})
	if err != nil || n < 10 {
		t.Fatalf("%d files, %v", n, err)
	}
}

// The libraries are vendored with their licences, and the list of them is complete.
func TestAssetsNameTheirLicences(t *testing.T) {
	readme, err := os.ReadFile("assets/vendor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("assets/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "README.md" && !strings.Contains(string(readme), "`"+f.Name()+"`") {
			t.Errorf("assets/vendor/README.md does not name %s", f.Name())
		}
	}
}
