package deploy_test

import (
	"net"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/milena-kafka/milena/config"
)

// probe is a probe of a container.
type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// pod is what the tests here need of a StatefulSet. Its types are checked in validate, a module of its own.
type pod struct {
	Grace      int `yaml:"terminationGracePeriodSeconds"`
	Containers []struct {
		Args  []string
		Ports []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		Env []struct {
			Name      string
			ValueFrom struct {
				FieldRef struct {
					FieldPath string `yaml:"fieldPath"`
				} `yaml:"fieldRef"`
			} `yaml:"valueFrom"`
		}
		StartupProbe   probe `yaml:"startupProbe"`
		LivenessProbe  probe `yaml:"livenessProbe"`
		ReadinessProbe probe `yaml:"readinessProbe"`
		VolumeMounts   []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
	}
}

func readPod(t *testing.T) pod {
	t.Helper()
	var set struct {
		Spec struct{ Template struct{ Spec pod } }
	}
	if err := yaml.Unmarshal([]byte(read(t, "kubernetes/statefulset.yaml")), &set); err != nil {
		t.Fatal(err)
	}
	if n := len(set.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%d containers", n)
	}
	return set.Spec.Template.Spec
}

// The probes ask for what the server has, where the config lets it listen.
func TestPodIsProbedWhereItAnswers(t *testing.T) {
	container := readPod(t).Containers[0]
	server := read(t, "../cmd/milena/admin.go")
	for _, p := range []struct {
		of   probe
		want string
	}{{container.StartupProbe, "/healthz"}, {container.LivenessProbe, "/healthz"}, {container.ReadinessProbe, "/readyz"}} {
		if got := p.of.HTTPGet; got.Path != p.want || got.Port != "http" {
			t.Errorf("a probe asks for %s on port %s, want %s on http", got.Path, got.Port, p.want)
		}
		if !strings.Contains(server, `mux.HandleFunc("GET `+p.want+`",`) {
			t.Errorf("the server has no %s", p.want)
		}
	}
	served := parse(t, "milena.yaml", read(t, "kubernetes/milena.yaml")).HTTP
	for _, part := range []string{config.OpenProbes, config.OpenMetrics} { // neither the kubelet nor podmonitor.yaml logs in
		if !slices.Contains(served.Open, part) {
			t.Errorf("http.open is %q, without %s", served.Open, part)
		}
	}
	listen := served.Listen
	host, port, err := net.SplitHostPort(listen)
	if err != nil || host != "" {
		t.Errorf("http.listen is %q, which the kubelet cannot reach (%v)", listen, err)
	}
	if p := container.Ports; len(p) != 1 || p[0].Name != "http" || strconv.Itoa(p[0].ContainerPort) != port {
		t.Errorf("the ports are %+v, and http.listen is %q", p, listen)
	}
}

// The pod has its id, the config that it is started with, and the files that the config names.
func TestPodHasItsFilesAndItsName(t *testing.T) {
	container := readPod(t).Containers[0]
	if len(container.Env) != 1 || container.Env[0].Name != "POD_NAME" || container.Env[0].ValueFrom.FieldRef.FieldPath != "metadata.name" {
		t.Errorf("the environment is %+v", container.Env)
	}
	mounted := make(map[string]string)
	for _, m := range container.VolumeMounts {
		mounted[m.Name] = m.MountPath
	}
	if want := []string{"run", "-c", path.Join(mounted["config"], "milena.yaml")}; !cmp.Equal(container.Args, want) {
		t.Errorf("the arguments are %q, want %q", container.Args, want)
	}
	for alias, cluster := range parse(t, "milena.yaml", read(t, "kubernetes/milena.yaml")).Clusters {
		if cluster.SASL != nil && path.Dir(cluster.SASL.PasswordFile) != mounted["secrets"] {
			t.Errorf("the password of %s is in %s, and secrets are in %s", alias, cluster.SASL.PasswordFile, mounted["secrets"])
		}
	}
}

func TestSupervisorsWaitLongerThanACleanStopTakes(t *testing.T) {
	limit := parse(t, "milena.yaml", read(t, "kubernetes/milena.yaml")).ShutdownTimeout
	if limit != config.Default().ShutdownTimeout {
		t.Errorf("the config of Kubernetes has its own shutdown_timeout, %v", limit)
	}
	waits := map[string]int{"kubernetes/statefulset.yaml": readPod(t).Grace}
	for _, unit := range units {
		m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(read(t, unit))
		if m == nil {
			t.Fatalf("%s has no TimeoutStopSec in seconds", unit)
		}
		waits[unit], _ = strconv.Atoi(m[1])
	}
	for file, seconds := range waits {
		if wait := time.Duration(seconds) * time.Second; wait < limit+10*time.Second {
			t.Errorf("%s waits %v, and a clean stop may take %v and some seconds", file, wait, limit)
		}
	}
}

var units = []string{"milena.service", "milena@.service"}

// settings are the lines of a unit without comments.
func settings(unit string) []string {
	return regexp.MustCompile(`(?m)^[^#\n].*$`).FindAllString(unit, -1)
}

// Hardening that is added to one unit must not be forgotten in the other.
func TestUnitsDifferInTheFileOnly(t *testing.T) {
	plain := strings.Join(settings(read(t, units[0])), "\n")
	for _, change := range [][2]string{
		{"\nDescription=milena, replication of Kafka clusters\n", "\nDescription=milena, replication of Kafka clusters, %i\n"},
		{" -c /etc/milena/milena.yaml\n", " -c /etc/milena/%i.yaml\n"},
	} {
		if strings.Count(plain, change[0]) != 1 {
			t.Errorf("%s does not have %q once", units[0], change[0])
		}
		plain = strings.Replace(plain, change[0], change[1], 1)
	}
	if diff := cmp.Diff(strings.Split(plain, "\n"), settings(read(t, units[1]))); diff != "" {
		t.Errorf("the units differ (-%s +%s):\n%s", units[0], units[1], diff)
	}
	for _, line := range []string{"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "SystemCallFilter=@system-service"} {
		if !strings.Contains(plain, "\n"+line+"\n") {
			t.Errorf("the units do not have %s", line)
		}
	}
}

// Rules about partitions that move, and sums over instances.
func TestAlertsOverInstances(t *testing.T) {
	if !strings.Contains(read(t, "alerts_test.yaml"), "rule_files: [alerts.yaml]\n") { // reading it here also tells go test that it has changed
		t.Error("alerts_test.yaml tests other rules")
	}
	out, err := exec.CommandContext(t.Context(), tool(t, "promtool"), "test", "rules", "alerts_test.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("promtool test rules alerts_test.yaml: %v\n%s", err, out)
	}
}

// The series of a partition that moves has another instance afterwards. Only a rule about an instance itself may depend on it.
func TestQueriesDoNotDependOnTheInstance(t *testing.T) {
	alerts := regexp.MustCompile(`(?ms)^ +expr: (.*?)^ +(?:for|labels|#)`).FindAllStringSubmatch(read(t, "alerts.yaml"), -1)
	panels := regexp.MustCompile(`(?m)^ +"expr": "(.*)",$`).FindAllStringSubmatch(read(t, "grafana.json"), -1)
	if len(alerts) < 11 || len(panels) < 19 {
		t.Errorf("%d alerts and %d queries of the dashboard", len(alerts), len(panels))
	}
	aggregation := regexp.MustCompile(`\b(?:sum|max|min|count|group) by \((?:job, )?flow`)
	aboutInstances := []string{"milena_ready == 0", "milena_config_last_reload_successful == 0"}
	for _, found := range append(alerts, panels...) {
		query := strings.TrimSpace(found[1])
		if !slices.Contains(aboutInstances, query) && len(aggregation.FindAllString(query, -1)) != strings.Count(query, "milena_") {
			t.Errorf("not every metric is summed over the instances: %s", query)
		}
	}
}

func TestAutoscalerUsesAMetricThatExists(t *testing.T) {
	page, text := read(t, "../docs/metrics.md"), read(t, "kubernetes/horizontalpodautoscaler.yaml")
	names := regexp.MustCompile(`\bmilena_[a-z_]+`).FindAllString(text, -1)
	for _, name := range names {
		if name != names[0] || !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("the autoscaler names %s and %s", names[0], name)
		}
	}
	if flow := parse(t, "milena.yaml", read(t, "kubernetes/milena.yaml")).Flows[0].Name; !strings.Contains(text, "matchLabels: {flow: "+flow+"}") {
		t.Errorf("the autoscaler does not ask for the lag of %s", flow)
	}
}

// tool is a program that not every machine has. With MILENA_TOOLS=require it must.
func tool(t *testing.T, name string) string {
	t.Helper()
	found, err := exec.LookPath(name)
	if err != nil && os.Getenv("MILENA_TOOLS") == "require" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return found
}
