// Package validate_test checks the manifests of deploy/kubernetes and of the chart in deploy/helm against the types and rules of
// Kubernetes, and the files of deploy/compose against those of Compose. It is a module of its own, so that
// milena does not depend on Kubernetes.
//
//	go test -count=1 ./...    because Go does not notice that files outside of a module have changed
package validate_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const folder = "../kubernetes"

// examples are applied only by those who have what they need.
var examples = []string{"horizontalpodautoscaler.yaml", "podmonitor.yaml"}

// decode decodes a manifest. An unknown or repeated key is an error.
func decode[T any](t *testing.T, manifest []byte) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(manifest, v); err != nil {
		t.Fatalf("%v, in:\n%s", err, manifest)
	}
	return v
}

func readFile[T any](t *testing.T, file string) *T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return decode[T](t, b)
}

func statefulSet(t *testing.T) *apps.StatefulSet {
	t.Helper()
	return readFile[apps.StatefulSet](t, "statefulset.yaml")
}

func TestManifestsHaveOnlyWhatTheirTypesHave(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(folder + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file := filepath.Base(path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var of meta.TypeMeta
		if err := yaml.Unmarshal(b, &of); err != nil {
			t.Fatal(err)
		}
		switch kind := of.APIVersion + " " + of.Kind; kind {
		case "apps/v1 StatefulSet":
			decode[apps.StatefulSet](t, b)
		case "v1 Service":
			decode[core.Service](t, b)
		case "policy/v1 PodDisruptionBudget":
			decode[disruption.PodDisruptionBudget](t, b)
		case "networking.k8s.io/v1 NetworkPolicy":
			decode[networking.NetworkPolicy](t, b)
		case "autoscaling/v2 HorizontalPodAutoscaler":
			decode[autoscaling.HorizontalPodAutoscaler](t, b)
		case "monitoring.coreos.com/v1 PodMonitor":
			decode[monitoring.PodMonitor](t, b)
		case "kustomize.config.k8s.io/v1beta1 Kustomization":
			listed := append(decode[types.Kustomization](t, b).Resources, examples...)
			for _, path := range files {
				if f := filepath.Base(path); f != file && f != "milena.yaml" && !slices.Contains(listed, f) {
					t.Errorf("%s does not list %s", file, f)
				}
			}
		default:
			if file != "milena.yaml" { // the config of milena
				t.Errorf("%s is a %q, which is not checked", file, kind)
			}
		}
	}
}

// build does what kubectl apply -k does, with everything in the folder.
func build(t *testing.T) map[string][]byte {
	t.Helper()
	disk, memory := filesys.MakeFsOnDisk(), filesys.MakeFsInMemory()
	files, err := disk.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := disk.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		if file == "kustomization.yaml" {
			b = []byte(strings.ReplaceAll(string(b), "\n  #- ", "\n  - "))
		}
		if err := memory.WriteFile("/all/"+file, b); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/all")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, r := range built.Resources() {
		if r.GetNamespace() != "milena" {
			t.Errorf("%s is in namespace %q", r.GetKind(), r.GetNamespace())
		}
		if all[r.GetKind()], err = r.AsYAML(); err != nil {
			t.Fatal(err)
		}
	}
	if want := len(files) - 1; len(all) != want { // the kustomization itself is none, and milena.yaml a ConfigMap
		t.Errorf("%d kinds of %d files", len(all), want)
	}
	return all
}

func TestPodsHaveTheConfigOfTheFolder(t *testing.T) {
	t.Parallel()
	all := build(t)
	config, set := decode[core.ConfigMap](t, all["ConfigMap"]), decode[apps.StatefulSet](t, all["StatefulSet"])
	want, err := os.ReadFile(folder + "/milena.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if config.Data["milena.yaml"] != string(want) || config.Name == "milena" {
		t.Errorf("the ConfigMap %s has another config", config.Name)
	}
	pod := set.Spec.Template.Spec
	if used := pod.Volumes[0].ConfigMap; used == nil || used.Name != config.Name {
		t.Errorf("the pod mounts %+v, not %s", pod.Volumes[0], config.Name)
	}
	if image := pod.Containers[0].Image; image != "milena:VERSION" {
		t.Errorf("the image is %s", image)
	}
}

func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	checkRestricted(t, statefulSet(t))
}

// checkRestricted checks the Pod Security Standard "restricted" of the newest version that the module knows.
func checkRestricted(t *testing.T, set *apps.StatefulSet) {
	t.Helper()
	pod := set.Spec.Template
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	standard := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(standard, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			t.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
	// What the standard does not ask for.
	c := pod.Spec.Containers[0]
	if root := c.SecurityContext.ReadOnlyRootFilesystem; root == nil || !*root {
		t.Error("the root filesystem can be written")
	}
	if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
		t.Error("the pod has a token for Kubernetes")
	}
	for _, m := range c.VolumeMounts {
		if !m.ReadOnly {
			t.Errorf("%s can be written", m.Name)
		}
	}
	if c.Resources.Limits.Memory().Cmp(*c.Resources.Requests.Memory()) < 0 || !c.Resources.Limits.Cpu().IsZero() {
		t.Errorf("the resources are %+v", c.Resources)
	}
}

func TestInstancesStartAndStopTogether(t *testing.T) {
	t.Parallel()
	set := statefulSet(t)
	if s := set.Spec; *s.Replicas < 2 || s.PodManagementPolicy != apps.ParallelPodManagement || s.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType {
		t.Errorf("%d replicas, %s, %s", *s.Replicas, s.PodManagementPolicy, s.UpdateStrategy.Type)
	}
	service := readFile[core.Service](t, "service.yaml")
	if service.Name != set.Spec.ServiceName || service.Spec.ClusterIP != core.ClusterIPNone {
		t.Errorf("the pods have no names: service %s, cluster IP %q", service.Name, service.Spec.ClusterIP)
	}
	budget := readFile[disruption.PodDisruptionBudget](t, "poddisruptionbudget.yaml")
	if budget.Spec.MaxUnavailable.IntValue() != 1 || budget.Spec.MinAvailable != nil {
		t.Errorf("the budget is %+v", budget.Spec)
	}
}

// Each selector finds the pods, and the port has the name that others use.
func TestSelectorsFindThePods(t *testing.T) {
	t.Parallel()
	set := statefulSet(t)
	selectors := map[string]*meta.LabelSelector{
		"statefulset":         set.Spec.Selector,
		"service":             {MatchLabels: readFile[core.Service](t, "service.yaml").Spec.Selector},
		"poddisruptionbudget": readFile[disruption.PodDisruptionBudget](t, "poddisruptionbudget.yaml").Spec.Selector,
		"networkpolicy":       &readFile[networking.NetworkPolicy](t, "networkpolicy.yaml").Spec.PodSelector,
		"podmonitor":          &readFile[monitoring.PodMonitor](t, "podmonitor.yaml").Spec.Selector,
	}
	for _, c := range set.Spec.Template.Spec.TopologySpreadConstraints {
		selectors["spread over "+c.TopologyKey] = c.LabelSelector
	}
	if len(selectors) != 7 {
		t.Errorf("%d selectors", len(selectors))
	}
	checkSelectors(t, set, selectors)
	port := set.Spec.Template.Spec.Containers[0].Ports[0].Name
	names := []string{
		readFile[core.Service](t, "service.yaml").Spec.Ports[0].TargetPort.StrVal,
		readFile[networking.NetworkPolicy](t, "networkpolicy.yaml").Spec.Ingress[0].Ports[0].Port.StrVal,
		*readFile[monitoring.PodMonitor](t, "podmonitor.yaml").Spec.PodMetricsEndpoints[0].Port,
	}
	for _, name := range names {
		if name != port {
			t.Errorf("the port is %s, and one asks for %s", port, name)
		}
	}
}

// checkSelectors checks that each selector finds the pods.
func checkSelectors(t *testing.T, set *apps.StatefulSet, selectors map[string]*meta.LabelSelector) {
	t.Helper()
	for of, s := range selectors {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		if selector.Empty() || !selector.Matches(labels.Set(set.Spec.Template.Labels)) {
			t.Errorf("the selector of %s is %q, and pods have %v", of, selector, set.Spec.Template.Labels)
		}
	}
}

func TestAutoscalerScalesThePodsSlowly(t *testing.T) {
	t.Parallel()
	set, scaler := statefulSet(t), readFile[autoscaling.HorizontalPodAutoscaler](t, "horizontalpodautoscaler.yaml").Spec
	if to := scaler.ScaleTargetRef; to.APIVersion != set.APIVersion || to.Kind != set.Kind || to.Name != set.Name {
		t.Errorf("the autoscaler scales %+v", to)
	}
	if *scaler.MinReplicas != *set.Spec.Replicas || scaler.MaxReplicas > 64 {
		t.Errorf("%d to %d replicas", *scaler.MinReplicas, scaler.MaxReplicas)
	}
	for _, m := range scaler.Metrics {
		if m.Type != autoscaling.ExternalMetricSourceType || m.External == nil || m.External.Target.AverageValue == nil || m.External.Target.Type != autoscaling.AverageValueMetricType {
			t.Errorf("the metric is %+v", m)
		}
	}
	for _, rules := range []*autoscaling.HPAScalingRules{scaler.Behavior.ScaleUp, scaler.Behavior.ScaleDown} {
		if *rules.StabilizationWindowSeconds < 300 || len(rules.Policies) != 1 || rules.Policies[0].Value != 1 {
			t.Errorf("the autoscaler may thrash: %+v", rules)
		}
	}
}
