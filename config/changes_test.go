package config_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/milena-kafka/milena/config"
)

const running = `clusters:
  a: {brokers: ["a:9092"]}
  b: {brokers: ["b:9092"]}
  c: {brokers: ["c:9092"]}
flows:
  - source: a
    target: b
    topics: ["orders.*"]
    anomalies: {truncated: halt}
  - {source: b, target: c, naming: rename, rename: {one: uno, two: due}}
log: {level: info}
`

// read reads a file of this text, which is named milena.yaml.
func read(t *testing.T, text string) (*config.File, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("milena.yaml", []byte(text), 0o600); err != nil {
		return nil, err
	}
	return config.Read("milena.yaml", env)
}

// changed returns the changes between two files whose flows all run, and the refusal.
func changed(t *testing.T, before, after string) (changes []string, refusal string) {
	t.Helper()
	files := make([]*config.File, 2)
	for i, text := range []string{before, after} {
		var err error
		if files[i], err = read(t, text); err != nil {
			t.Fatal(err)
		}
	}
	list := config.Changes(files[0], files[1], files[0].Config.Flows, files[1].Config.Flows)
	for _, c := range list {
		changes = append(changes, c.String())
	}
	if err := config.Refuse(files[1], list); err != nil {
		refusal = err.Error()
	}
	return changes, refusal
}

func TestChangesNameKeysAndFlows(t *testing.T) {
	const restart = " cannot change while milena runs; restart milena, or undo the change"
	for _, c := range []struct {
		name, old, new string
		changes        []string
		refusal        string
	}{
		{"nothing", "", "", nil, ""},
		{"a comment", "log:", "# words\nlog:", nil, ""},
		{"a default that is written out", "log: {level: info}", "log: {level: info, format: auto}", nil, ""},
		{"topics", `"orders.*"`, `"orders.*", "clicks"`, []string{"flow a-b: topics"}, ""},
		{"one anomaly", "truncated: halt", "truncated: skip", []string{"flow a-b: anomalies.truncated"}, ""},
		{"the level of the log", "level: info", "level: debug", []string{"log.level"}, ""},
		{"a topic is renamed too", "two: due", "two: due, three: tre", []string{"flow b-c: rename.three"}, ""},
		{"a topic is not renamed any more", ", two: due", "", []string{"flow b-c: rename.two"}, ""},
		{
			"a topic gets another name", "two: due", "two: duo",
			[]string{"flow b-c: rename.two"},
			"milena.yaml:10: flows[1].rename.two:" + restart,
		},
		{
			"a flow is added", "flows:", "flows:\n  - {source: c, target: a}",
			[]string{"flow c-a added"},
			"",
		},
		{
			"a flow is removed", "  - {source: b, target: c, naming: rename, rename: {one: uno, two: due}}\n", "",
			[]string{"flow b-c removed"},
			"",
		},
		{
			"a flow has another name", "source: b,", "name: other, source: b,",
			[]string{"flow other added", "flow b-c removed"},
			"",
		},
		{"a broker", "a:9092", "a:9093", []string{"clusters.a.brokers"}, "milena.yaml:2: clusters.a.brokers:" + restart},
		{
			"a login", `["a:9092"]`, `["a:9092"], sasl: {mechanism: PLAIN, username: me, password: secret}`,
			[]string{"clusters.a.sasl"},
			"milena.yaml:2: clusters.a.sasl:" + restart,
		},
		{"a cluster that no flow uses", "clusters:", "clusters:\n  d: {brokers: ['d:9092']}", nil, ""},
		{
			"live and not", "source: a\n", "source: a\n    shards: 8\n    merge: false\n",
			[]string{"flow a-b: shards", "flow a-b: merge"},
			"milena.yaml:7: flows[0].shards:" + restart,
		},
		{"http", "log:", "http: {listen: ':1234'}\nlog:", []string{"http.listen"}, "milena.yaml:11: http.listen:" + restart},
		{"the buffer", "log:", "buffer: 64MiB\nlog:", []string{"buffer"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			after := strings.Replace(running, c.old, c.new, 1)
			if c.old != c.new && after == running {
				t.Fatal("the change is not in the file")
			}
			changes, refusal := changed(t, running, after)
			if diff := cmp.Diff(c.changes, changes); diff != "" {
				t.Errorf("changes, -want +got\n%s", diff)
			}
			if refusal != c.refusal {
				t.Errorf("refused with %q, want %q", refusal, c.refusal)
			}
		})
	}
}

// A flow that this process does not run may change as it likes, and a cluster that only such flows use.
func TestFlowsOfOtherProcessesMayChange(t *testing.T) {
	var files []*config.File
	for _, text := range []string{running, strings.NewReplacer("c:9092", "c:9093", "naming: rename, rename: {one: uno, two: due}", "naming: identity").Replace(running)} {
		f, err := read(t, text)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if changes := config.Changes(files[0], files[1], files[0].Config.Flows[:1], files[1].Config.Flows[:1]); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
}

// A property that cannot change has its line in an mm2.properties too.
func TestRefusalsHaveLinesOfProperties(t *testing.T) {
	const properties = "clusters = a, b\na.bootstrap.servers = a:9092\nb.bootstrap.servers = b:9092\na->b.enabled = true\na->b.topics = one\n"
	changes, refusal := changed(t, properties, strings.NewReplacer("b:9092", "b:9093", "topics = one", "topics = two").Replace(properties))
	if diff := cmp.Diff([]string{"flow a-b: topics", "clusters.b.brokers"}, changes); diff != "" {
		t.Errorf("changes, -want +got\n%s", diff)
	}
	if want := "milena.yaml:3: clusters.b.brokers: cannot change"; !strings.HasPrefix(refusal, want) {
		t.Errorf("refused with %q", refusal)
	}
}

// Somebody has decided about every key whether it can change while milena runs, and about nothing that is no key.
func TestEveryKeyIsClassified(t *testing.T) {
	decided := config.LiveKeys()
	used := make(map[string]bool)
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		if _, ok := decided[path]; ok {
			used[path] = true
			return
		}
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Struct {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			t.Errorf("%s: may it change while milena runs? The table in changes.go says", path)
			return
		}
		for i := range typ.NumField() {
			walk(typ.Field(i).Type, strings.TrimPrefix(path+"."+typ.Field(i).Tag.Get("koanf"), "."))
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
	for key := range decided {
		if !used[key] {
			t.Errorf("%s: there is no such key", key)
		}
	}
}

func TestARefusalIsAConfigError(t *testing.T) {
	f, err := read(t, running)
	if err != nil {
		t.Fatal(err)
	}
	var wrong *config.Error
	if err := config.Refusal(f, "flows", "no flow left"); !errors.As(err, &wrong) || err.Error() != "milena.yaml:5: flows: no flow left" {
		t.Errorf("it is %v", err)
	}
}
