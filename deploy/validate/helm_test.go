package validate_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

const chartFolder = "../helm/milena"

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// valuesFiles are the values files of the chart, by their name.
func valuesFiles(t *testing.T) map[string]chartutil.Values {
	t.Helper()
	paths, err := filepath.Glob(chartFolder + "/ci/*-values.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("the values files are %v: %v", paths, err)
	}
	all := map[string]chartutil.Values{}
	for _, path := range paths {
		if all[strings.TrimSuffix(filepath.Base(path), "-values.yaml")], err = chartutil.ReadValuesFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// render does what helm template does for a release.
func render(t *testing.T, release string, values chartutil.Values) (map[string]string, error) {
	t.Helper()
	c := loadChart(t)
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: release, Namespace: "milena", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// manifests are the objects of a release by their kind. Each is decoded as what it says it is, without unknown keys.
func manifests(t *testing.T, release string, values chartutil.Values) map[string]any {
	t.Helper()
	rendered, err := render(t, release, values)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for path, text := range rendered {
		if !strings.HasSuffix(path, ".yaml") {
			continue
		}
		for documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
			b, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(b)) > 0 {
				kind, object := typed(t, b)
				if all[kind] != nil {
					t.Errorf("%s makes a second %s", path, kind)
				}
				all[kind] = object
			}
		}
	}
	return all
}

// typed decodes a manifest as what it says it is.
func typed(t *testing.T, manifest []byte) (string, any) {
	t.Helper()
	var of meta.TypeMeta
	if err := sigsyaml.Unmarshal(manifest, &of); err != nil {
		t.Fatalf("%v, in:\n%s", err, manifest)
	}
	switch of.APIVersion + " " + of.Kind {
	case "apps/v1 StatefulSet":
		return of.Kind, decode[apps.StatefulSet](t, manifest)
	case "v1 Service":
		return of.Kind, decode[core.Service](t, manifest)
	case "v1 ConfigMap":
		return of.Kind, decode[core.ConfigMap](t, manifest)
	case "policy/v1 PodDisruptionBudget":
		return of.Kind, decode[disruption.PodDisruptionBudget](t, manifest)
	case "networking.k8s.io/v1 NetworkPolicy":
		return of.Kind, decode[networking.NetworkPolicy](t, manifest)
	case "monitoring.coreos.com/v1 PodMonitor":
		return of.Kind, decode[monitoring.PodMonitor](t, manifest)
	}
	t.Fatalf("the chart makes a %s %s, which is not checked", of.APIVersion, of.Kind)
	return "", nil
}

func TestChartHasNoLint(t *testing.T) {
	t.Parallel()
	for name, values := range valuesFiles(t) {
		linted := lint.AllWithKubeVersion(chartFolder, values, "milena", nil)
		for _, m := range linted.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("with %s-values.yaml: %s", name, m)
			}
		}
	}
}

// Whatever the values are, the pod is restricted, its selectors find it, and milena reads its config.
func TestChartMakesValidManifests(t *testing.T) {
	t.Parallel()
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := manifests(t, "kafka", values)
			set := all["StatefulSet"].(*apps.StatefulSet)
			checkRestricted(t, set)
			selectors := map[string]*meta.LabelSelector{
				"statefulset": set.Spec.Selector,
				"service":     {MatchLabels: all["Service"].(*core.Service).Spec.Selector},
			}
			for _, c := range set.Spec.Template.Spec.TopologySpreadConstraints {
				selectors["spread over "+c.TopologyKey] = c.LabelSelector
			}
			if budget, made := all["PodDisruptionBudget"].(*disruption.PodDisruptionBudget); made {
				selectors["poddisruptionbudget"] = budget.Spec.Selector
			}
			if network, made := all["NetworkPolicy"].(*networking.NetworkPolicy); made {
				selectors["networkpolicy"] = &network.Spec.PodSelector
			}
			if monitor, made := all["PodMonitor"].(*monitoring.PodMonitor); made {
				selectors["podmonitor"] = &monitor.Spec.Selector
			}
			checkSelectors(t, set, selectors)
			if s := all["Service"].(*core.Service); s.Name != set.Spec.ServiceName {
				t.Errorf("the pods are named by %s, and the service is %s", set.Spec.ServiceName, s.Name)
			}
			checkConfig(t, all["ConfigMap"].(*core.ConfigMap).Data["milena.yaml"])
		})
	}
}

// With the values of deploy/kubernetes, the chart makes the same objects, but for the names that Helm's labels and its own ConfigMap need.
func TestChartMakesWhatKustomizeMakes(t *testing.T) {
	t.Parallel()
	chart, kustomized := manifests(t, "milena", valuesFiles(t)["kubernetes"]), build(t)
	for kind, object := range chart {
		_, want := typed(t, kustomized[kind])
		for _, o := range []any{object, want} {
			unify(o)
		}
		if kind == "ConfigMap" {
			sameYAML(t, object.(*core.ConfigMap), want.(*core.ConfigMap))
			continue
		}
		if diff := cmp.Diff(want, object); diff != "" {
			t.Errorf("%s (-kustomize +chart):\n%s", kind, diff)
		}
	}
	if len(chart) != 6 {
		t.Errorf("the chart makes %d objects", len(chart))
	}
}

// unify takes away what may differ.
func unify(object any) {
	m := object.(meta.Object)
	m.SetNamespace("")
	m.SetName("")
	m.SetLabels(nil)
	forget := func(labels map[string]string) { delete(labels, "app.kubernetes.io/instance") }
	switch o := object.(type) {
	case *apps.StatefulSet:
		pod := &o.Spec.Template
		forget(o.Spec.Selector.MatchLabels)
		forget(pod.Labels)
		pod.Annotations = nil // the hash of the config
		pod.Spec.Volumes[0].ConfigMap.Name = ""
		pod.Spec.Volumes[1].Name, pod.Spec.Containers[0].VolumeMounts[1].Name = "", ""
		pod.Spec.Containers[0].ImagePullPolicy = ""
		for _, c := range pod.Spec.TopologySpreadConstraints {
			forget(c.LabelSelector.MatchLabels)
		}
		for _, p := range []*core.Probe{pod.Spec.Containers[0].StartupProbe, pod.Spec.Containers[0].LivenessProbe, pod.Spec.Containers[0].ReadinessProbe} {
			if p.HTTPGet.Scheme == core.URISchemeHTTP { // the default
				p.HTTPGet.Scheme = ""
			}
		}
	case *core.Service:
		forget(o.Spec.Selector)
	case *disruption.PodDisruptionBudget:
		forget(o.Spec.Selector.MatchLabels)
	case *networking.NetworkPolicy:
		forget(o.Spec.PodSelector.MatchLabels)
	case *monitoring.PodMonitor:
		forget(o.Spec.Selector.MatchLabels)
	}
}

func sameYAML(t *testing.T, a, b *core.ConfigMap) {
	t.Helper()
	var values [2]any
	for i, m := range []*core.ConfigMap{a, b} {
		if err := sigsyaml.Unmarshal([]byte(m.Data["milena.yaml"]), &values[i]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(values[1], values[0]); diff != "" {
		t.Errorf("milena.yaml (-kustomize +chart):\n%s", diff)
	}
}

// checkConfig lets milena read a config. Exit code 2 is a config that it refuses, 1 says that no cluster answers here.
func checkConfig(t *testing.T, config string) {
	t.Helper()
	binary := milena(t)
	path := filepath.Join(t.TempDir(), "milena.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), binary, "check", "-c", path, "--timeout", "1ms")
	check.Env = append(os.Environ(), "ALICE_TOKEN=0123456789abcdef0123")
	said, err := check.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("milena check: %v\n%s\n%s", err, said, config)
	}
}

// A wrong value is refused before anything is installed, and the message names it.
func TestChartRefusesWrongValues(t *testing.T) {
	t.Parallel()
	const good = "config: {clusters: {a: {brokers: [\"a:9092\"]}, b: {brokers: [\"b:9092\"]}}, flows: [{source: a, target: b}]}\n"
	for _, c := range []struct{ values, want string }{
		{"", "'/config/clusters': minProperties"},
		{"", "'/config/flows': minItems"},
		{good + "replica: 3", "additional properties 'replica' not allowed"},
		{good + "replicas: two", "'/replicas': got string, want integer"},
		{good + "replicas: 65", "'/replicas': maximum: got 65, want 64"},
		{good + "image: {tag: 1.0}", "'/image/tag': got number, want string"},
		{good + "image: {digest: latest}", "'/image/digest': 'latest' does not match pattern"},
		{good + "image: {pullPolicy: Sometimes}", "'/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{good + "secrets: [milena-secrets]", "'/secrets': got array, want object"},
		{good + "podMonitor: {enabled: true, interval: often}", "'/podMonitor/interval': 'often' does not match pattern"},
		{strings.Replace(good, "config: {", "config: {http: {listen: \"127.0.0.1:9644\"}, ", 1), "'/config/http/listen': '127.0.0.1:9644' does not match pattern"},
		{strings.Replace(good, "brokers: [\"b:9092\"]", "broker: b", 1), "'/config/clusters/b': missing property 'brokers'"},
		{
			strings.Replace(good, "brokers: [\"b:9092\"]", "brokers: [\"b:9092\"], sasl: {mechanism: PLAIN, username: u, password: p}", 1),
			"config.clusters.b.sasl.password must not be in the values: put it into a Secret, name the Secret in secrets, and the file with password_file",
		},
		{
			strings.Replace(good, "config: {", "config: {http: {tokens: {alice: 0123456789abcdef0123}}, ", 1),
			"config.http.tokens.alice must not be in the values: put it into a Secret, name the Secret in environmentSecrets, and write ${KEY} here",
		},
	} {
		values, err := chartutil.ReadValues([]byte(c.values))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render(t, "milena", values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q is answered with %q, want %q", c.values, err, c.want)
		}
	}
}

// A changed config restarts the pods, and other values do not.
func TestChartRestartsPodsForAnotherConfig(t *testing.T) {
	t.Parallel()
	hash := func(change func(chartutil.Values)) string {
		values := valuesFiles(t)["minimal"]
		change(values)
		return manifests(t, "milena", values)["StatefulSet"].(*apps.StatefulSet).Spec.Template.Annotations["checksum/config"]
	}
	before := hash(func(chartutil.Values) {})
	if len(before) != 64 || hash(func(v chartutil.Values) { v["replicas"] = 3 }) != before {
		t.Error("more replicas restart the pods")
	}
	if hash(func(v chartutil.Values) { v["config"].(map[string]any)["buffer"] = "64MiB" }) == before {
		t.Error("another config restarts no pod")
	}
}

// What a user reads after the install names the pods and Secrets of the release.
func TestNotesNameWhatTheReleaseHas(t *testing.T) {
	t.Parallel()
	rendered, err := render(t, "kafka", valuesFiles(t)["full"])
	if err != nil {
		t.Fatal(err)
	}
	notes := rendered["milena/templates/NOTES.txt"]
	for _, want := range []string{"statefulset/kafka-milena", "port-forward kafka-milena-0 9644", "The Secret kafka-eu must exist", "3 instances of milena share 2 flow(s)"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes)
		}
	}
	set := manifests(t, "kafka", valuesFiles(t)["full"])["StatefulSet"].(*apps.StatefulSet)
	mounts := set.Spec.Template.Spec.Containers[0].VolumeMounts
	if probe := set.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet; probe.Scheme != core.URISchemeHTTPS {
		t.Errorf("the probe asks by %s a server with a certificate", probe.Scheme)
	}
	if !slices.ContainsFunc(mounts, func(m core.VolumeMount) bool { return m.MountPath == "/run/secrets/eu" && m.ReadOnly }) {
		t.Errorf("the pod mounts %+v", mounts)
	}
}
