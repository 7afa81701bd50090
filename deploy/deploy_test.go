// Package deploy_test holds what is written for people against the code: the configs, the metrics and the alerts.
package deploy_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/milena-kafka/milena/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// environment has every variable.
func environment(name string) (string, bool) { return "value of " + name, true }

func parse(t *testing.T, name, text string) *config.Config {
	t.Helper()
	c, err := config.Parse(name, []byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFullConfigSaysTheDefaults(t *testing.T) {
	got := parse(t, "milena.yaml", read(t, "milena.yaml"))
	want := config.Default()
	want.Clusters = map[string]config.Cluster{}
	for alias, cluster := range got.Clusters {
		c := config.DefaultCluster()
		c.Brokers = cluster.Brokers
		want.Clusters[alias] = c
	}
	want.Flows = []config.Flow{config.DefaultFlow("primary", "dr")}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("deploy/milena.yaml differs from the defaults (-default +file):\n%s", diff)
	}
}

// keys are all keys below a type, by their last step.
func keys(typ reflect.Type, all map[string]bool) {
	switch typ.Kind() { //nolint:exhaustive // every other kind is a plain value
	case reflect.Pointer, reflect.Slice, reflect.Map:
		keys(typ.Elem(), all)
	case reflect.Struct:
		for i := range typ.NumField() {
			all[typ.Field(i).Tag.Get("koanf")] = true
			keys(typ.Field(i).Type, all)
		}
	}
}

func TestFullConfigHasEveryKey(t *testing.T) {
	text := read(t, "milena.yaml")
	all := map[string]bool{}
	keys(reflect.TypeFor[config.Config](), all)
	for key := range all {
		if !regexp.MustCompile(`(?m)^#?[ -]*#? *` + key + `:`).MatchString(text) {
			t.Errorf("deploy/milena.yaml does not show %s", key)
		}
	}
}

// What is off by default has to load as well, once somebody takes the # away.
func TestFullConfigLoadsWithWhatIsOff(t *testing.T) {
	off := regexp.MustCompile(`(?m)^( *)#( *)(tls|sasl|ca_file|ca_password_file|cert_file|cert_password_file|key_file|key_password_file|server_name|mechanism|username|password_file):`)
	text := off.ReplaceAllString(read(t, "milena.yaml"), "$1$2$3:")
	dr := parse(t, "milena.yaml", text).Clusters["dr"]
	if dr.TLS == nil || dr.TLS.ServerName == "" || dr.SASL == nil || dr.SASL.PasswordFile == "" {
		t.Errorf("the sections are not where they belong: %+v", dr)
	}
	text = strings.Replace(text, "naming: prefix ", "naming: rename ", 1)
	text = strings.Replace(text, "#rename:", "rename:", 1)
	if flow := parse(t, "milena.yaml", text).Flows[0]; len(flow.Rename) == 0 {
		t.Error("the rename table is not where it belongs")
	}
}

func TestReadmeConfigsLoad(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "../README.md"), -1)
	for i, block := range blocks {
		parse(t, fmt.Sprintf("README.md, YAML block %d", i+1), block[1])
	}
	if len(blocks) != 2 {
		t.Fatalf("README.md has %d YAML blocks, want the smallest config and the full one", len(blocks))
	}
	if diff := cmp.Diff(read(t, "milena.yaml"), blocks[1][1]); diff != "" {
		t.Errorf("the full config in README.md is not deploy/milena.yaml (-file +README):\n%s", diff)
	}
}

func TestReadmeExplainsEveryAnomaly(t *testing.T) {
	readme := read(t, "../README.md")
	for _, kind := range config.AnomalyKinds() {
		row := regexp.MustCompile("(?m)^\\| `" + kind + "` \\|.*\\| ([a-z, ]+) \\|$").FindStringSubmatch(readme)
		if row == nil {
			t.Errorf("README.md has no row for %s", kind)
			continue
		}
		if want := strings.Join(config.AnomalyActions(kind), ", "); row[1] != want {
			t.Errorf("README.md allows %q for %s, the config %q", row[1], kind, want)
		}
	}
}

// Whether the table is what the code has is tested beside the code.
func TestAlertsUseMetricsThatExist(t *testing.T) {
	readme, alerts := read(t, "../README.md"), read(t, "alerts.yaml")
	for _, name := range regexp.MustCompile(`\bmilena_[a-z_]+`).FindAllString(alerts, -1) {
		if !strings.Contains(readme, "| `"+name+"` |") {
			t.Errorf("alerts.yaml uses %s, which the README does not know", name)
		}
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(alerts), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if !strings.Contains(readme, "| "+rule.Alert+" | `"+rule.Expr+"`") {
				t.Errorf("README.md does not show the alert %s with %s", rule.Alert, rule.Expr)
			}
		}
	}
}
