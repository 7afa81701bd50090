// Package deploy_test checks the files of this folder, and what docs say of anomalies and alerts, against the code.
package deploy_test

import (
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
	off := regexp.MustCompile(`(?m)^( *)#( *)(tls|sasl|ca_file|ca_password_file|cert_file|cert_password_file|key_file|key_password_file|server_name|mechanism|username|password_file|oauth|token_endpoint|client_id|client_secret_file|scope|extensions):`)
	text := off.ReplaceAllString(read(t, "milena.yaml"), "$1$2$3:")
	c := parse(t, "milena.yaml", text)
	if primary := c.Clusters["primary"]; primary.SASL == nil || primary.SASL.OAuth == nil || primary.SASL.OAuth.Scope == "" {
		t.Errorf("the sections are not where they belong: %+v", primary)
	}
	dr := c.Clusters["dr"]
	if dr.TLS == nil || dr.TLS.ServerName == "" || dr.SASL == nil || dr.SASL.PasswordFile == "" {
		t.Errorf("the sections are not where they belong: %+v", dr)
	}
	text = strings.Replace(text, "naming: prefix ", "naming: rename ", 1)
	text = strings.Replace(text, "#rename:", "rename:", 1)
	if flow := parse(t, "milena.yaml", text).Flows[0]; len(flow.Rename) == 0 {
		t.Error("the rename table is not where it belongs")
	}
}

func TestDocsExplainEveryAnomaly(t *testing.T) {
	page := read(t, "../docs/anomalies.md")
	for _, kind := range config.AnomalyKinds() {
		_, section, ok := strings.Cut(page, "\n## "+kind+"\n")
		if !ok {
			t.Errorf("docs/anomalies.md has no section %s", kind)
			continue
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, item := range []string{"Symptom", "Cause", "What to do"} {
			if !strings.Contains(section, "- **"+item+":** ") {
				t.Errorf("docs/anomalies.md does not say the %s of %s", item, kind)
			}
		}
		want := "- **Actions:** `" + strings.Join(config.AnomalyActions(kind), "`, `") + "`\n"
		if !strings.Contains(section, want) {
			t.Errorf("docs/anomalies.md does not say of %s: %s", kind, want)
		}
	}
}

// Whether the table is what the code has is tested beside the code.
func TestAlertsUseMetricsThatExist(t *testing.T) {
	page, alerts := read(t, "../docs/metrics.md"), read(t, "alerts.yaml")
	for _, name := range regexp.MustCompile(`\bmilena_[a-z_]+`).FindAllString(alerts, -1) {
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("alerts.yaml uses %s, which docs/metrics.md does not know", name)
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
			if !strings.Contains(page, "| "+rule.Alert+" | `"+rule.Expr+"`") {
				t.Errorf("docs/metrics.md does not show the alert %s with %s", rule.Alert, rule.Expr)
			}
		}
	}
}
