package validate_test

import (
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	compose "github.com/compose-spec/compose-go/v2/types"
	"github.com/twmb/franz-go/pkg/kfake"
	"sigs.k8s.io/yaml"
)

const composeFolder = "../compose"

// project loads compose.yaml as docker compose does: by the schema of the Compose specification, with all references resolved.
func project(t *testing.T) *compose.Project {
	t.Helper()
	folder, err := filepath.Abs(composeFolder)
	if err != nil {
		t.Fatal(err)
	}
	p, err := loader.LoadWithContext(t.Context(), compose.ConfigDetails{
		WorkingDir:  folder,
		ConfigFiles: []compose.ConfigFile{{Filename: filepath.Join(folder, "compose.yaml")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeMountsFilesThatExist(t *testing.T) {
	t.Parallel()
	for name, service := range project(t).Services {
		for _, v := range service.Volumes {
			if v.Type != compose.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s mounts %s, read-only: %t: %v", name, v.Source, v.ReadOnly, err)
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s opens port %s to %q", name, port.Published, port.HostIP)
			}
		}
		if name != "milena" && service.HealthCheck == nil { // its image has one
			t.Errorf("%s has no health check", name)
		}
	}
}

func TestComposeRunsTwoClusters(t *testing.T) {
	t.Parallel()
	p := project(t)
	ids := map[string]bool{}
	for _, name := range []string{"primary", "dr"} {
		env := p.Services[name].Environment
		id, err := base64.RawURLEncoding.DecodeString(*env["CLUSTER_ID"])
		if err != nil || len(id) != 16 || ids[string(id)] {
			t.Errorf("%s has the cluster id %s: %v", name, *env["CLUSTER_ID"], err)
		}
		ids[string(id)] = true
		// Each advertised listener is one that the broker has, on the same port; clients of this machine use the published one.
		for _, advertised := range strings.Split(*env["KAFKA_ADVERTISED_LISTENERS"], ",") {
			listener, address, _ := strings.Cut(advertised, "://")
			host, port, err := net.SplitHostPort(address)
			if err != nil || !slices.Contains(strings.Split(*env["KAFKA_LISTENERS"], ","), listener+"://:"+port) {
				t.Errorf("%s advertises %s and listens on %s: %v", name, advertised, *env["KAFKA_LISTENERS"], err)
			}
			if listener == "INSIDE" && host != name || listener == "OUTSIDE" && p.Services[name].Ports[0].Published != port {
				t.Errorf("%s advertises %s", name, advertised)
			}
		}
	}
}

// milena.yaml names the brokers as they call themselves; with the addresses of two fake clusters in their place, milena finds nothing wrong.
func TestComposeConfigCopies(t *testing.T) {
	t.Parallel()
	p := project(t)
	mounted := p.Services["milena"].Volumes[0]
	b, err := os.ReadFile(mounted.Source)
	if err != nil {
		t.Fatal(err)
	}
	if mounted.Target != "/etc/milena/milena.yaml" || p.Services["milena"].Build.Context != filepath.Dir(filepath.Dir(filepath.Dir(mounted.Source))) {
		t.Errorf("milena is built from %s and reads %s", p.Services["milena"].Build.Context, mounted.Target)
	}
	text := string(b)
	for _, name := range []string{"primary", "dr"} {
		inside := "INSIDE://" + name + ":19092"
		if !strings.Contains(*p.Services[name].Environment["KAFKA_ADVERTISED_LISTENERS"], inside) || !strings.Contains(text, `"`+name+`:19092"`) {
			t.Errorf("milena.yaml does not name %s as %s", name, inside)
		}
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(name), kfake.SeedTopics(1, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer fake.Close()
		text = strings.ReplaceAll(text, name+":19092", fake.ListenAddrs()[0])
	}
	path := filepath.Join(t.TempDir(), "milena.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), milena(t), "check", "-c", path).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "primary.orders") {
		t.Errorf("milena check: %v\n%s", err, said)
	}
}

// Prometheus reads its config and the alerts where compose.yaml mounts them, and scrapes the service.
func TestComposePrometheusReadsItsConfig(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("MILENA_PROMTOOL") == "require" {
			t.Fatal(err)
		}
		t.Skip("promtool is not installed")
	}
	dir := t.TempDir()
	var config string
	for _, v := range project(t).Services["prometheus"].Volumes {
		if v.Type != compose.VolumeTypeBind {
			continue
		}
		b, err := os.ReadFile(v.Source)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Base(v.Target))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".yml") {
			config = string(b)
		}
	}
	said, err := exec.CommandContext(t.Context(), promtool, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "rules found") {
		t.Errorf("promtool: %v\n%s", err, said)
	}
	if !strings.Contains(config, `"milena:9644"`) {
		t.Errorf("Prometheus scrapes something else:\n%s", config)
	}
}

// Grafana finds the dashboard where its provider looks, and the data source where Prometheus listens.
func TestComposeGrafanaHasTheDashboard(t *testing.T) {
	t.Parallel()
	var sources struct{ Datasources []struct{ Type, URL string } }
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	for path, into := range map[string]any{"datasources/prometheus.yaml": &sources, "dashboards/milena.yaml": &providers} {
		b, err := os.ReadFile(filepath.Join(composeFolder, "grafana", path))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	if s := sources.Datasources; len(s) != 1 || s[0].Type != "prometheus" || s[0].URL != "http://prometheus:9090" {
		t.Errorf("the data sources are %+v", s)
	}
	grafana := project(t).Services["grafana"]
	found := slices.ContainsFunc(grafana.Volumes, func(v compose.ServiceVolumeConfig) bool {
		return filepath.Base(v.Source) == "grafana.json" && filepath.Dir(v.Target) == providers.Providers[0].Options.Path && v.Target == *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	})
	if !found {
		t.Errorf("the dashboard is not in %s: %+v", providers.Providers[0].Options.Path, grafana.Volumes)
	}
}
