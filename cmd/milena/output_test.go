package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// Every command that prints a result prints it as a table, as JSON or as YAML, and still takes --json.
func TestCommandsWithOutput(t *testing.T) {
	without := []string{"help", "completion", "man", "demo", "convert", "health"} // they print texts
	for _, c := range commands() {
		if c.verb == nil || slices.Contains(without, c.name()) {
			continue
		}
		p := newProgram(&strings.Builder{}, &strings.Builder{}, noEnv)
		_ = c.verb(p, t.Context(), []string{"--help"})
		output, asJSON := p.defined.flags.ShorthandLookup("o"), p.defined.flags.Lookup("json")
		if output == nil || output.Name != "output" || asJSON == nil || !asJSON.Hidden {
			t.Errorf("milena %s: --output is %v, --json is %v", c.name(), output, asJSON)
		}
		if code, _, stderr := milena(t, c.name(), "-o", "xml"); code != exitUsage || !strings.Contains(stderr, "--output=xml must be table, json or yaml; see milena ") {
			t.Errorf("milena %s: exit %d, %s", c.name(), code, stderr)
		}
	}
}

// YAML has the fields of JSON.
func TestOutputOfVersion(t *testing.T) {
	_, asJSON, _ := milena(t, "version", "--json")
	_, same, _ := milena(t, "version", "-o", "json")
	_, asYAML, _ := milena(t, "version", "--output", "yaml")
	var fromJSON, fromYAML map[string]any
	if err := json.Unmarshal([]byte(asJSON), &fromJSON); err != nil || asJSON != same || fromJSON["version"] != buildVersion() {
		t.Errorf("%v\n%s%s", err, asJSON, same)
	}
	if err := yaml.Unmarshal([]byte(asYAML), &fromYAML); err != nil || !cmp.Equal(fromJSON, fromYAML) {
		t.Errorf("%v\n%s", err, asYAML)
	}
}

// Fields keep their order and numbers their digits. Strings that would be something else without quotes keep them, and what a terminal would
// act on stays an escape.
func TestYAMLOfADocument(t *testing.T) {
	const document = `{"zone": "a", "end": 9007199254740993, "lag": null, "ready": true, "part": 1e-7, "names": ["on", "123", "", "a: b", "null", "~"],
 "why": "first\nsecond", "empty": {}, "none": [], "evil \u001b[2J": "\u001b[31m\u202e ` + "\u009b" + `", "list": [{"topic": "orders"}, {"topic": "bills"}], "url": "<a&b>\\"}`
	want := `zone: a
end: 9007199254740993
lag: null
ready: true
part: 1e-7
names:
  - "on"
  - "123"
  - ""
  - 'a: b'
  - "null"
  - "~"
why: |-
  first
  second
empty: {}
none: []
"evil \e[2J": "\e[31m\u202e \x9B"
list:
  - topic: orders
  - topic: bills
url: <a&b>\
`
	var out bytes.Buffer
	p := newProgram(&out, &out, noEnv)
	if err := p.printDocument(outputYAML, []byte(document)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	var fromJSON, fromYAML any
	if err := json.Unmarshal([]byte(document), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(out.Bytes(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	delete(fromJSON.(map[string]any), "end") // too long for a float
	delete(fromYAML.(map[string]any), "end")
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Error(diff)
	}
}
