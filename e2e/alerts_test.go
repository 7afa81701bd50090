package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// alertCase is an alert of deploy/alerts.yaml, its cause and its cure.
type alertCase struct {
	name   string
	labels map[string]string // besides job and flow; an empty one is absent
	slow   bool              // it is left out unless MILENA_LONG is set
	says   string            // what the commands that the description names print about the cause: a regular expression
	plant  func(*alerts)
	cure   func(*alerts)
}

// Each alert fires for a cause on real brokers, its description names a command that shows the cause, and it is inactive after the cure. Prometheus
// scrapes the real process and loads the real rules, with shorter durations.
func TestAlerts(t *testing.T) {
	t.Parallel()
	x := startAlerts(t)
	t.Run("while milena runs", func(t *testing.T) { x.in(t).fireAndCure(whileMilenaRuns()) })
	t.Run("while groups are paused", func(t *testing.T) { x.in(t).fireAndCure(whileGroupsArePaused()) })
	t.Run("without a drill", func(t *testing.T) { x.in(t).fireAndCure(withoutADrill()) })
	t.Run("while the source does not answer", func(t *testing.T) { x.in(t).fireAndCure(withoutSource()) })
	t.Run("while the config is refused", func(t *testing.T) { x.in(t).fireAndCure(whileTheConfigIsRefused()) })
	t.Run("without an instance", func(t *testing.T) { x.in(t).fireAndCure(withoutInstance()) })
	t.Run("without a target at the start", func(t *testing.T) { x.in(t).fireAndCure(withoutTarget()) })
	x.m.stop()
}

// whileMilenaRuns are those whose causes do not touch each other.
func whileMilenaRuns() []alertCase {
	return []alertCase{
		{
			name: "MilenaPartitionHalted", says: `gapped +0 +halted +retention_gap`,
			plant: func(x *alerts) { x.overtake() },
			cure: func(x *alerts) {
				x.m.command(x.t, "skip", "--partition", "gapped-0", "--reason", "the alert says so")
			},
		},
		{
			name: "MilenaTopicNotCopied", says: `more than 249 characters`,
			plant: func(x *alerts) { x.createTopic(strings.Repeat("l", 245), 1, 1) },
			cure:  func(x *alerts) { x.deleteTopic(strings.Repeat("l", 245)) },
		},
		{
			name: "MilenaNoProgress", labels: map[string]string{"topic": "stuck", "partition": "0"}, says: `(?i)stuck +0 .*(not allowed|authoriz)`,
			plant: func(x *alerts) {
				createACLs(x.t, x.targetClient, "DENY WRITE milena topic source.stuck")
				x.writeTo("stuck", time.Now())
			},
			cure: func(x *alerts) { x.allow("WRITE") },
		},
		{
			name: "MilenaRPOMissed", says: `RPO: .*\(objective 10 s: MISSED\); at most \d+ records missing\n +\w+: \d+ records of 1 partition missing`,
			plant: func(x *alerts) {
				x.m.command(x.t, "pause", "--topic", "lacking", "--reason", "a test")
				x.writeTo("lacking", time.Now())
			},
			cure: func(x *alerts) { x.m.command(x.t, "resume", "--topic", "lacking") },
		},
		{
			name: "MilenaCopyDiffers", says: `differing +0 +the copy differs from the source \(1 of its records\), first: 1 record from source offset 9, target offset \d+ on: value`,
			plant: func(x *alerts) { x.forge("differing") },
			cure: func(x *alerts) {
				x.m.command(x.t, "restart-copy", "differing", "--reason", "the alert says so")
			},
		},
		{
			name: "MilenaConfigsNotSynced", labels: map[string]string{"pass": "configs"}, says: `(?i)configs.*(not allowed|authoriz)`,
			plant: func(x *alerts) {
				createACLs(x.t, x.targetClient, "DENY ALTER_CONFIGS milena topic source.orders")
				alterConfigs(x.t, x.sourceAdmin, "orders", "retention.ms=7200000")
			},
			cure: func(x *alerts) { x.allow("ALTER_CONFIGS") },
		},
		{
			name: "MilenaTimeToLoss", labels: map[string]string{"topic": "ageing"}, says: `paused: topic ageing`,
			plant: func(x *alerts) {
				x.m.command(x.t, "pause", "--topic", "ageing", "--reason", "a test")
				x.writeTo("ageing", time.Now().Add(-50*time.Minute))
			},
			cure: func(x *alerts) {
				alterConfigs(x.t, x.sourceAdmin, "ageing", "retention.ms=864000000")
				x.m.command(x.t, "resume", "--topic", "ageing")
			},
		},
		{
			name: "MilenaInternalTopicNotWritten", slow: true, labels: map[string]string{"cluster": "target"}, says: `mm2-offset-syncs`,
			plant: func(x *alerts) {
				createACLs(x.t, x.targetClient, "DENY WRITE milena topic mm2-offset-syncs.source.internal")
			},
			cure: func(x *alerts) { x.allow("WRITE") },
		},
		{
			name: "MilenaTransactionHangs", slow: true, labels: map[string]string{"topic": "hanging", "partition": "0"}, says: `"open_transaction"`,
			plant: func(x *alerts) { x.hang() },
			cure:  func(x *alerts) { x.abort() },
		},
		{
			name: "MilenaGroupsOwn", slow: true, says: `app`,
			plant: func(x *alerts) { x.commitOn(x.targetAdmin, remoteTopic("orders"), 1) },
			cure: func(x *alerts) {
				deleted, err := x.targetAdmin.DeleteOffsets(x.t.Context(), "app", kadm.TopicsSet{remoteTopic("orders"): {0: {}}})
				check(x.t, err)
				check(x.t, deleted.Error())
			},
		},
		{
			name: "MilenaLagGrows", slow: true, labels: map[string]string{"topic": "flood", "partition": "0"}, says: `throttled to`,
			plant: func(x *alerts) {
				x.m.command(x.t, "throttle", "--topic", "flood", "--rate", "16KiB", "--reason", "a test")
				x.flood = x.writer(load.Options{Topic: "flood", Partitions: 1}).Stream(x.owner.Context(), 500)
			},
			cure: func(x *alerts) {
				x.m.command(x.t, "throttle", "--topic", "flood", "--rate", "0", "--reason", "a test")
				_, err := x.flood.Stop(x.t.Context())
				check(x.t, err)
			},
		},
	}
}

// whileGroupsArePaused has the alert whose cause hides that of another one.
func whileGroupsArePaused() []alertCase {
	return []alertCase{
		{
			name: "MilenaGroupsNotSynced", slow: true, says: `paused: the group sync`,
			plant: func(x *alerts) { x.m.command(x.t, "pause", "--groups", "--reason", "a test") },
			cure:  func(x *alerts) { x.m.command(x.t, "resume", "--groups") },
		},
	}
}

// whileTheConfigIsRefused has the alert with whose cause no command can read the file.
func whileTheConfigIsRefused() []alertCase {
	var good []byte
	return []alertCase{{
		name: "MilenaConfigNotReloaded", labels: map[string]string{"flow": ""}, says: `nonsense: unknown key`,
		plant: func(x *alerts) {
			var err error
			good, err = os.ReadFile(x.m.Config())
			check(x.t, err)
			x.m.replaceConfig(x.t, string(good)+"nonsense: true\n")
		},
		cure: func(x *alerts) { x.m.replaceConfig(x.t, string(good)) },
	}}
}

// withoutADrill has the alert whose cure is a drill, which finds what any other alert is about.
func withoutADrill() []alertCase {
	return []alertCase{{
		name: "MilenaDrillOverdue", slow: true, says: `nothing was changed; without --dry-run, drill of flow source-target`,
		plant: func(x *alerts) {
			before, err := os.ReadFile(x.m.Config())
			check(x.t, err)
			x.m.replaceConfig(x.t, regexp.MustCompile(`(?m)^( *)rpo: 10s$`).ReplaceAllString(string(before), "${1}rpo: 10s\n${1}rto: 5m"))
		},
		cure: func(x *alerts) { x.m.command(x.t, "drill", "--freeze", "none", "--no-reverse") },
	}}
}

func withoutSource() []alertCase {
	unreachable := `(?i)source.*(no answer|not answer|refused|cannot be reached)`
	cut := func(x *alerts) { check(x.t, x.source.Network(x.t.Context(), proxy.BlackHole)) }
	join := func(x *alerts) { check(x.t, x.source.Network(x.t.Context(), proxy.Pass)) }
	return []alertCase{
		{name: "MilenaLagUnknown", slow: true, says: unreachable, plant: cut, cure: join},
		{name: "MilenaNotReady", slow: true, says: unreachable, plant: cut, cure: join},
	}
}

func withoutInstance() []alertCase {
	return []alertCase{{
		name: "MilenaNoInstance", says: `(?i)no instance`,
		plant: func(x *alerts) { x.m.stop() },
		cure: func(x *alerts) {
			x.start()
			x.m.waitReady(30 * time.Second)
		},
	}, {
		name: "MilenaRPOMissed", says: `RPO: complete up to .*\(objective 10 s`,
		plant: func(*alerts) {}, cure: func(*alerts) {}, // there is no figure that could be too large
	}}
}

func withoutTarget() []alertCase {
	return []alertCase{{
		name: "MilenaShardsWithoutInstance", slow: true, says: `(?i)target`,
		plant: func(x *alerts) {
			x.m.stop()
			check(x.t, x.target.Network(x.t.Context(), proxy.BlackHole))
			x.start()
		},
		cure: func(x *alerts) {
			check(x.t, x.target.Network(x.t.Context(), proxy.Pass))
			x.m.waitReady(time.Minute)
		},
	}}
}

// alerts is a flow that Prometheus watches.
type alerts struct {
	*pair
	m     *milena
	url   string // of Prometheus
	flood *load.Stream
}

func (x *alerts) in(t *testing.T) *alerts {
	sub := *x
	sub.pair, sub.m = x.pair.in(t), x.m.in(t)
	return &sub
}

// start starts milena, which ends with the whole test.
func (x *alerts) start() {
	x.t.Helper()
	check(x.t, x.m.Start(x.owner.Context()))
}

func startAlerts(t *testing.T) *alerts {
	t.Helper()
	requireKafka(t)
	if _, err := exec.LookPath("prometheus"); err != nil {
		if os.Getenv("MILENA_E2E") == "require" {
			t.Fatal("needs prometheus in PATH: unpack Debian's package, as .ci/run does")
		}
		t.Skip("needs prometheus in PATH: unpack Debian's package, as .ci/run does")
	}
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	target := kafka.Options{
		Proxied: true, Security: &kafka.Security{CA: ca, Users: map[string]string{"milena": aclPassword}},
		Properties: map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"},
	}
	x := &alerts{pair: startPair(t, kafka.Options{Proxied: true}, target)}
	createACLs(t, x.targetClient, "ALLOW ALL milena topic *", "ALLOW ALL milena group *", "ALLOW ALL milena txn *", "ALLOW ALL milena cluster kafka-cluster")
	for _, topic := range []string{"orders", "gapped", "stuck", "hanging", "flood", "lacking", "differing"} {
		x.createTopic(topic, 1, 1)
	}
	x.createTopic("ageing", 1, 1, "retention.ms=3600000", "segment.ms=86400000")
	orders := x.writer(load.Options{Topic: "orders", Partitions: 1})
	check(t, orders.Write(t.Context(), 100))
	x.commitOn(x.sourceAdmin, "orders", 50)
	check(t, x.writer(load.Options{Topic: "differing", Partitions: 1, Codec: "none"}).Write(t.Context(), 10))
	caFile := filepath.Join(x.dir, "ca.pem")
	check(t, os.WriteFile(caFile, ca.PEM, 0o600))
	config := x.config(".*")
	config["clusters"] = daemon.Map{
		"source": daemon.Map{"brokers": x.source.ProxyAddrs()},
		"target": daemon.Map{
			"brokers": x.target.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "PLAIN", "username": "milena", "password": aclPassword},
		},
	}
	flow := config["flows"].([]daemon.Map)[0]
	flow["configs_interval"], flow["groups_interval"], flow["rpo"] = "1s", "1s", "10s"
	flow["verify"] = daemon.Map{"rate": noVerification}
	x.m = x.startMilena(config)
	x.watch()
	x.noAlerts()
	return x
}

// watch starts a Prometheus that scrapes milena and evaluates the rules each second.
func (x *alerts) watch() {
	x.t.Helper()
	rules, err := os.ReadFile("../deploy/alerts.yaml")
	check(x.t, err)
	dir := filepath.Join(x.dir, "prometheus")
	check(x.t, os.MkdirAll(dir, 0o755))
	check(x.t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), []byte(shorten(string(rules))), 0o600))
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yaml]\nscrape_configs:\n- {job_name: milena, static_configs: [{targets: [%q]}]}\n",
		strings.TrimPrefix(x.m.URL(), "http://"))
	check(x.t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	ports, err := proc.FreePorts(x.t.Context(), 1)
	check(x.t, err)
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	x.url = "http://" + address
	p, err := proc.Start(x.t.Context(), "prometheus", filepath.Join(dir, "log"), []string{
		"prometheus", "--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address, "--query.lookback-delta=5s",
	})
	check(x.t, err)
	x.t.Cleanup(func() {
		if x.t.Failed() {
			x.t.Logf("prometheus:\n%s", p.Tail(20))
		}
	})
}

var (
	ruleDuration = regexp.MustCompile(`\b(\d+)(m|d)(\]|\b)`)
	ruleAge      = regexp.MustCompile(`> (60|300|3600)\n`)
)

// shorten makes an hour of the rules a minute, and a minute a second: the durations of ranges, offsets, for and keep_firing_for, and the ages in seconds
// that expressions compare with. The hour of MilenaConfigsNotSynced becomes ten seconds. The rest stays as it is.
func shorten(rules string) string {
	rules = ruleDuration.ReplaceAllStringFunc(rules, func(s string) string {
		m := ruleDuration.FindStringSubmatch(s)
		return m[1] + map[string]string{"m": "s", "d": "m"}[m[2]] + m[3]
	})
	return ruleAge.ReplaceAllStringFunc(rules, func(s string) string {
		return map[string]string{"> 60\n": "> 1\n", "> 300\n": "> 5\n", "> 3600\n": "> 10\n"}[s]
	})
}

// firingAlert is an alert in Prometheus' HTTP API.
type firingAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
}

// alerts are those that are pending or firing.
func (x *alerts) alerts() (list []firingAlert, err error) {
	ctx, cancel := context.WithTimeout(x.t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, x.url+"/api/v1/alerts", nil)
	check(x.t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Data struct {
			Alerts []firingAlert `json:"alerts"`
		} `json:"data"`
	}
	return answer.Data.Alerts, json.NewDecoder(response.Body).Decode(&answer)
}

// fits reports whether this is the alert of a case.
func (a *firingAlert) fits(c alertCase) bool {
	labels := map[string]string{"alertname": c.name, "job": "milena", "flow": "source-target"}
	maps.Copy(labels, c.labels)
	if a.State != "firing" {
		return false
	}
	for name, value := range labels {
		if a.Labels[name] != value {
			return false
		}
	}
	return true
}

// noAlerts waits until no alert is firing.
func (x *alerts) noAlerts() {
	x.t.Helper()
	eventually(x.t, 3*time.Minute, "no alert fires", func() (bool, string) {
		list, err := x.alerts()
		list = slices.DeleteFunc(list, func(a firingAlert) bool { return a.State != "firing" })
		return err == nil && len(list) == 0, fmt.Sprintf("%v %+v", err, list)
	})
}

// fireAndCure plants all causes, waits until each alert fires, follows what it says, cures all, and waits until no alert fires any more.
func (x *alerts) fireAndCure(cases []alertCase) {
	x.t.Helper()
	cases = slices.DeleteFunc(cases, func(c alertCase) bool { return c.slow && os.Getenv("MILENA_LONG") == "" })
	if len(cases) == 0 {
		x.t.Skip("takes longer; run it with MILENA_LONG=1")
	}
	began := time.Now()
	for _, c := range cases {
		c.plant(x)
	}
	for _, c := range cases {
		var found firingAlert
		eventually(x.t, 90*time.Second, c.name+" fires", func() (bool, string) {
			list, err := x.alerts()
			i := slices.IndexFunc(list, func(a firingAlert) bool { return a.fits(c) })
			if i >= 0 {
				found = list[i]
			}
			return i >= 0, fmt.Sprintf("%v %+v", err, list)
		})
		x.t.Logf("%s after %.0f s: %s\n%s", c.name, time.Since(began).Seconds(), found.Annotations["summary"], found.Annotations["description"])
		x.follow(c, found.Annotations["description"])
	}
	x.noOthers()
	for _, c := range cases {
		c.cure(x)
	}
	cured := time.Now()
	x.noAlerts()
	x.t.Logf("inactive %.0f s after the cures", time.Since(cured).Seconds())
}

// noOthers checks that only the topic whose records grow old is said to lose some, and that no topic is said to make no progress because it is paused. What a
// retention gap has lost is lost already.
func (x *alerts) noOthers() {
	x.t.Helper()
	list, err := x.alerts()
	check(x.t, err)
	for _, a := range list {
		name, topic := a.Labels["alertname"], a.Labels["topic"]
		if name == "MilenaTimeToLoss" && topic != "ageing" || name == "MilenaNoProgress" && slices.Contains([]string{"ageing", "lacking"}, topic) {
			x.t.Errorf("%+v", a)
		}
	}
}

// follow runs what the description of an alert names, and checks that it shows the cause.
func (x *alerts) follow(c alertCase, description string) {
	x.t.Helper()
	var shown string
	for word, ask := range map[string]func() string{
		"`milena status`": func() string {
			out, _ := exec.CommandContext(x.t.Context(), x.m.Binary(), "status", "--url", x.m.URL()).CombinedOutput()
			return string(out)
		},
		"`milena status -c FILE`": func() string { out, _ := x.m.tryCommand(x.t, "status"); return out },
		"`milena drill`": func() string {
			out, _ := x.m.tryCommand(x.t, "drill", "--freeze", "none", "--no-reverse", "--dry-run")
			return out
		},
		"/readyz":   func() string { return x.read("/readyz") },
		"`/status`": func() string { return x.read("/status") },
	} {
		if strings.Contains(description, word) {
			shown += ask()
		}
	}
	if !regexp.MustCompile(c.says).MatchString(shown) {
		x.t.Errorf("%s: what it names does not show %s:\n%s\n%.3000s", c.name, c.says, description, shown)
	}
}

func (x *alerts) read(path string) string {
	x.t.Helper()
	request, err := http.NewRequestWithContext(x.t.Context(), http.MethodGet, x.m.URL()+path, nil)
	check(x.t, err)
	response, err := http.DefaultClient.Do(request)
	check(x.t, err)
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	check(x.t, response.Write(&text))
	return text.String()
}
