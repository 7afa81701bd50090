package config_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
)

// flatten adds every plain value below v, by path.
func flatten(v reflect.Value, path string, out map[string]string) {
	switch v.Kind() { //nolint:exhaustive // every other kind is a plain value
	case reflect.Pointer:
		if !v.IsNil() {
			out[path] = "{}"
			flatten(v.Elem(), path, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			flatten(v.Field(i), strings.TrimPrefix(path+"."+v.Type().Field(i).Tag.Get("koanf"), "."), out)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			flatten(it.Value(), path+"."+it.Key().String(), out)
		}
	case reflect.Slice:
		if list, ok := v.Interface().([]string); ok {
			out[path] = fmt.Sprintf("%q", list)
			return
		}
		for i := range v.Len() {
			flatten(v.Index(i), fmt.Sprintf("%s[%d]", path, i), out)
		}
	default:
		out[path] = fmt.Sprint(v.Interface())
		if s, ok := v.Interface().(config.Secret); ok {
			out[path] = s.Reveal()
		}
	}
}

// nonDefaults returns the values of a config that differ from milena's defaults, one per line.
func nonDefaults(c *config.Config) []string {
	base := config.Default()
	base.Clusters = map[string]config.Cluster{}
	for alias := range c.Clusters {
		base.Clusters[alias] = config.DefaultCluster()
	}
	for _, f := range c.Flows {
		base.Flows = append(base.Flows, config.DefaultFlow(f.Source, f.Target))
	}
	got, defaults := map[string]string{}, map[string]string{}
	flatten(reflect.ValueOf(*c), "", got)
	flatten(reflect.ValueOf(base), "", defaults)
	for alias := range c.Clusters {
		defaults["clusters."+alias+".tls.verify"] = config.DefaultTLS().Verify
	}
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if got[path] != defaults[path] || strings.HasSuffix(path, ".source") || strings.HasSuffix(path, ".target") {
			lines = append(lines, strings.TrimSpace(path+" = "+strings.ReplaceAll(got[path], "\n", `\n`)))
		}
	}
	return lines
}

// splitWanted splits a file of testdata into what a user wrote and the comments with the expected result.
func splitWanted(t *testing.T, path string) (data []byte, file, want []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "# want "); ok {
			want = append(want, strings.TrimSpace(text))
		} else {
			file = append(file, line)
		}
	}
	return data, file, want
}

func compare(t *testing.T, path string, file, want, got []string) {
	t.Helper()
	if *rewrite {
		text := strings.Join(file, "") + "# want " + strings.Join(got, "\n# want ") + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Each good file ends with comments that list the values that differ from milena's defaults, and the notes.
func TestMM2FilesLoad(t *testing.T) {
	for _, path := range files(t, "testdata/mm2/*.good.*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, file, want := splitWanted(t, path)
			f, err := config.Read(path, env)
			if err != nil {
				t.Fatal(err)
			}
			if !f.IsMM2 {
				t.Fatal("parsed as YAML")
			}
			got := nonDefaults(f.Config)
			for _, n := range f.Notes {
				got = append(got, fmt.Sprintf("note %d %s: %s", n.Line, n.Key, n.Reason))
			}
			compare(t, path, file, want, got)
		})
	}
}

// The converted YAML must mean the same as the file it was converted from.
func TestMM2FilesConvertToTheSameConfig(t *testing.T) {
	for _, path := range files(t, "testdata/mm2/*.good.*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, _, _ := splitWanted(t, path)
			f, err := config.Read(path, env)
			if err != nil {
				t.Fatal(err)
			}
			text, err := f.YAML()
			if err != nil {
				t.Fatal(err)
			}
			outside := func(name string) (string, bool) {
				if strings.HasPrefix(name, "MILENA_") && (strings.HasSuffix(name, "_PASSWORD") || strings.HasSuffix(name, "_KEY") || strings.HasSuffix(name, "_SECRET")) {
					return "s3cr3t", true
				}
				return env(name)
			}
			again, err := config.Parse("converted", text, outside)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if diff := cmp.Diff(nonDefaults(f.Config), nonDefaults(again)); diff != "" {
				t.Errorf("-properties +yaml\n%s\n%s", diff, text)
			}
			if !reflect.DeepEqual(f.Config, again) {
				t.Errorf("the configs differ in an empty list:\n%s", text)
			}
			if strings.Contains(string(text), "s3cr3t") && !strings.Contains(string(data), `"s3cr3t"`) {
				t.Errorf("a secret from a config provider is printed:\n%s", text)
			}
			if yaml, err := config.Parse("again", text, outside); err != nil || !reflect.DeepEqual(yaml, again) {
				t.Error("parsing it again gives another config")
			}
		})
	}
}

func TestMM2BadFilesReportAllProblems(t *testing.T) {
	line := regexp.MustCompile(`^[1-9][0-9]*: \S.*: .`)
	for _, path := range files(t, "testdata/mm2/*.bad.*") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, file, want := splitWanted(t, path)
			began := time.Now()
			_, err := config.Load(path, env)
			var ce *config.Error
			if !errors.As(err, &ce) {
				t.Fatalf("error is %T: %v", err, err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %v", took)
			}
			var got []string
			for _, p := range ce.Problems {
				text := strings.TrimSpace(strings.TrimPrefix(p.String(), path+":"))
				if !line.MatchString(text) {
					t.Errorf("no line or no key: %s", text)
				}
				got = append(got, text)
			}
			compare(t, path, file, want, got)
			for _, secret := range []string{"s3cr3t", "hunter2", "12345"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a message shows the secret %q:\n%v", secret, err)
				}
			}
		})
	}
}

func TestFormatIsDetectedByContent(t *testing.T) {
	for text, want := range map[string]bool{
		"clusters = a, b\n":           true,
		"clusters: a, b\n":            true,
		"clusters a, b\n":             true,
		"a->b.enabled = true\n":       true,
		"clusters:\n  a: {}\n":        false,
		"clusters: {a: {}}\n":         false,
		"flows: []\nclusters: a\n":    false,
		"clusters: # by alias\n  a:":  false,
		"http: {listen: \"\"}\n":      false,
		"":                            false,
		"# clusters = a\nclusters:\n": false,
	} {
		_, err := config.Parse("config", []byte(text), env)
		if err == nil {
			t.Fatalf("%q is accepted", text)
		}
		got := strings.Contains(err.Error(), "bootstrap.servers") || strings.Contains(err.Error(), "clusters = a, b") || strings.Contains(err.Error(), "has no flow")
		if got != want {
			t.Errorf("%q: properties is %v, want %v: %v", text, got, want, err)
		}
	}
}

func FuzzParseMM2(f *testing.F) {
	paths, _ := filepath.Glob("testdata/mm2/*.*")
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f.properties", data, env)
		var ce *config.Error
		switch {
		case err == nil && c.Validate() != nil:
			t.Fatalf("Validate of a parsed config: %v", c.Validate())
		case err != nil && (!errors.As(err, &ce) || len(ce.Problems) == 0):
			t.Fatalf("error without problems: %v", err)
		}
	})
}

// What Windows writes as "Unicode" is named.
func TestUTF16IsNamed(t *testing.T) {
	for _, data := range []string{"\xff\xfec\x00l\x00", "\xfe\xff\x00c\x00l"} {
		_, err := config.Parse("mm2.properties", []byte(data), env)
		if err == nil || !strings.Contains(err.Error(), "mm2.properties: the file is in UTF-16; save it as UTF-8") {
			t.Errorf("%q: %v", data, err)
		}
	}
}
