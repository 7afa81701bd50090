// Package docs_test checks the documentation against the code: README.md and the pages of this folder.
//
//	go test ./docs -update    rewrites the tables of configuration.md
package docs_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/plan"
)

var update = flag.Bool("update", false, "rewrite the tables of configuration.md")

// pages are README.md and all pages of this folder and of those in it, as paths from here.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.md")
	if err != nil || len(found) < 10 {
		t.Fatalf("%d pages, %v", len(found), err)
	}
	deeper, err := filepath.Glob("*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, deeper...)
	return append(found, "../README.md", "../CHANGELOG.md")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// block is a fenced block of a page.
type block struct {
	where string // page and line
	text  string
}

func blocks(t *testing.T, language string) []block {
	t.Helper()
	fence := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$")
	var found []block
	for _, page := range pages(t) {
		text := read(t, page)
		for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
			line := strings.Count(text[:at[0]], "\n") + 1
			found = append(found, block{fmt.Sprintf("%s:%d", page, line), text[at[2]:at[3]]})
		}
	}
	return found
}

// anchor is the anchor that GitHub gives a heading.
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(kept, " ", "-")
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	fences := regexp.MustCompile("(?ms)^```.*?^```$")
	link := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fences.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, wanted, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if wanted == "" {
				continue
			}
			headings := regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fences.ReplaceAllString(read(t, target), ""), -1)
			if !slices.ContainsFunc(headings, func(h []string) bool { return anchor(h[1]) == wanted }) {
				t.Errorf("%s links to %s, and %s has no such heading", page, m[1], target)
			}
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	if lines := strings.Count(read(t, "../README.md"), "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, want at most 150: details belong to a page of docs", lines)
	}
}

// Configs in pages load. An excerpt is completed with clusters and flows.
func TestConfigsLoad(t *testing.T) {
	t.Parallel()
	environment := func(name string) (string, bool) { return "value of " + name, true }
	for _, b := range blocks(t, "yaml") {
		text := b.text
		if !strings.Contains(text, "clusters:") {
			text += "\nclusters:\n  primary: {brokers: [\"primary:9092\"]}\n  dr: {brokers: [\"dr:9092\"]}\n"
		} else if !strings.Contains(text, "  primary:") {
			text = strings.Replace(text, "clusters:\n", "clusters:\n  primary: {brokers: [\"primary:9092\"]}\n", 1)
		}
		if !strings.Contains(text, "flows:") {
			text += "\nflows:\n  - {source: primary, target: dr}\n"
		}
		if _, err := config.Parse(b.where, []byte(text), environment); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestProgramsCompile(t *testing.T) {
	t.Parallel()
	for i, b := range blocks(t, "go") {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("program%d.go", i))
		if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		vet := exec.CommandContext(t.Context(), "go", "vet", path)
		vet.Dir = ".."
		if out, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", b.where, err, out)
		}
	}
}

// Each heading of troubleshooting.md in code style is a message of the code, in which … replaces what varies.
func TestSymptomsAreMessagesOfTheCode(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, folder := range []string{"cmd", "config", "offsets", "policy", "replicator"} {
		err := filepath.WalkDir("../"+folder, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			code.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	symptoms := regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(read(t, "troubleshooting.md"), -1)
	if len(symptoms) < 20 {
		t.Errorf("%d symptoms", len(symptoms))
	}
	for _, s := range symptoms {
		for part := range strings.SplitSeq(s[1], "…") {
			if !strings.Contains(code.String(), strings.TrimSpace(part)) {
				t.Errorf("troubleshooting.md: no message of the code contains %q, of %q", strings.TrimSpace(part), s[1])
			}
		}
	}
}

// doctor.md has a section about each finding, and about no other.
func TestDoctorPageHasEveryFinding(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, id := range plan.FindingIDs() {
		want = append(want, string(id))
	}
	for _, m := range regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(read(t, "doctor.md"), -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("doctor.md (-code +page):\n%s", diff)
	}
}

// sections are the tables of configuration.md.
func sections() []struct {
	name  string
	value reflect.Value
} {
	cluster, flow := config.DefaultCluster(), config.DefaultFlow("<source>", "<target>")
	return []struct {
		name  string
		value reflect.Value
	}{
		{"top", reflect.ValueOf(config.Default())},
		{"cluster", reflect.ValueOf(cluster)},
		{"tls", reflect.ValueOf(config.DefaultTLS())},
		{"sasl", reflect.ValueOf(config.SASL{})},
		{"oauth", reflect.ValueOf(config.OAuth{})},
		{"aws", reflect.ValueOf(config.AWS{})},
		{"kerberos", reflect.ValueOf(config.DefaultKerberos())},
		{"flow", reflect.ValueOf(flow)},
		{"verify", reflect.ValueOf(flow.Verify)},
		{"anomalies", reflect.ValueOf(flow.Anomalies)},
		{"anomalies_by_topic", reflect.ValueOf(config.TopicAnomalies{})},
		{"http", reflect.ValueOf(config.Default().HTTP)},
		{"http_tls", reflect.ValueOf(config.HTTPTLS{})},
		{"log", reflect.ValueOf(config.Default().Log)},
		{"metrics", reflect.ValueOf(config.Default().Metrics)},
		{"otel", reflect.ValueOf(config.Default().OTel)},
	}
}

// required are the keys that have no default and must be written.
var required = []string{"top.clusters", "top.flows", "cluster.brokers", "sasl.mechanism", "flow.source", "flow.target", "http_tls.cert_file", "http_tls.key_file", "anomalies_by_topic.topics", "anomalies_by_topic.anomalies"}

// reference lists key, type and default of one section, from the code.
func reference(section string, v reflect.Value) [][3]string {
	var rows [][3]string
	if v.Kind() == reflect.Map {
		for _, kind := range config.AnomalyKinds() {
			rows = append(rows, [3]string{kind, strings.Join(config.AnomalyActions(kind), ", "), "`" + v.MapIndex(reflect.ValueOf(kind)).String() + "`"})
		}
		return rows
	}
	for i := range v.NumField() {
		key, f := v.Type().Field(i).Tag.Get("koanf"), v.Field(i)
		typ, value := describe(f)
		if slices.Contains(required, section+"."+key) {
			value = "required"
		}
		rows = append(rows, [3]string{key, typ, value})
	}
	return rows
}

func describe(f reflect.Value) (typ, value string) {
	switch v := f.Interface().(type) {
	case time.Duration:
		return "duration", "`" + v.String() + "`"
	case *time.Duration:
		return "duration", ""
	case config.Bytes:
		return "size", "`" + v.String() + "`"
	case config.Secret:
		return "secret", ""
	case []string:
		quoted := make([]string, 0, len(v))
		for _, item := range v {
			quoted = append(quoted, "`"+item+"`")
		}
		return "list", strings.Join(quoted, ", ")
	}
	switch f.Kind() { //nolint:exhaustive // every other kind is a number
	case reflect.Map, reflect.Struct, reflect.Pointer, reflect.Slice:
		return "section", ""
	case reflect.Bool:
		return "true or false", fmt.Sprintf("`%v`", f.Interface())
	case reflect.String:
		if f.String() == "" {
			return "text", ""
		}
		return "text", "`" + f.String() + "`"
	default:
		return "number", fmt.Sprintf("`%v`", f.Interface())
	}
}

// The tables of configuration.md have the keys, types and defaults of the code. Their last column is written by hand and kept.
func TestConfigurationPageHasEveryKeyAndDefault(t *testing.T) {
	t.Parallel()
	page := read(t, "configuration.md")
	updated := page
	for _, s := range sections() {
		table := regexp.MustCompile(`(?m)(<!-- reference: ` + s.name + ` -->\n)((?:\|.*\n)*)`)
		m := table.FindStringSubmatch(page)
		if m == nil {
			t.Errorf("configuration.md has no line <!-- reference: %s -->", s.name)
			continue
		}
		meanings := make(map[string]string)
		for _, row := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\|.* \\| (.*) \\|$").FindAllStringSubmatch(m[2], -1) {
			meanings[row[1]] = row[2]
		}
		kind := "type"
		if s.name == "anomalies" {
			kind = "actions"
		}
		fresh := m[1] + "| key | " + kind + " | default | meaning |\n|---|---|---|---|\n"
		for _, row := range reference(s.name, s.value) {
			meaning := meanings[row[0]]
			if meaning == "" || meaning == "TODO" {
				meaning = "TODO"
				t.Errorf("configuration.md: say what %s of %s means", row[0], s.name)
			}
			fresh += fmt.Sprintf("| `%s` | %s | %s | %s |\n", row[0], row[1], row[2], meaning)
		}
		updated = strings.Replace(updated, m[0], fresh, 1)
	}
	if *update {
		if err := os.WriteFile("configuration.md", []byte(updated), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(updated, page); diff != "" {
		t.Errorf("configuration.md is not what the code says; run go test ./docs -update (-code +page):\n%s", diff)
	}
}

// The table of the keys that need a restart is that of the code.
func TestDocsSayWhichKeysNeedARestart(t *testing.T) {
	want := map[string][]string{}
	for key, live := range config.LiveKeys() {
		section, name := "top level", key
		if flowKey, ok := strings.CutPrefix(key, "flows."); ok {
			section, name = "`flows`", flowKey
		}
		if !live {
			want[section] = append(want[section], "`"+name+"`")
		}
	}
	page := read(t, "configuration.md")
	for section, keys := range want {
		slices.Sort(keys)
		if row := "| " + section + " | " + strings.Join(keys, ", ") + " |"; !strings.Contains(page, row) {
			t.Errorf("configuration.md does not have the row %s", row)
		}
	}
}
