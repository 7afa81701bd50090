package e2e_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// finding is one of milena doctor.
type finding struct {
	ID, Severity, Cluster, Topic, Meaning, Mend, Command string
}

func (f finding) String() string {
	return strings.Join([]string{f.Severity, f.ID, f.Cluster, f.Topic, f.Meaning, f.Mend, f.Command}, " | ")
}

// doctor runs milena doctor and returns its exit code and its findings.
func (p *pair) doctor(t *testing.T, config daemon.Map) (int, []finding) {
	t.Helper()
	bin, err := buildMilena()
	check(t, err)
	d, err := daemon.New(t.Context(), bin, filepath.Join(p.dir, "doctor"), config)
	check(t, err)
	cmd := exec.CommandContext(within(t, time.Minute, "doctor ends"), bin, "doctor", "-c", d.Config(), "--output", "json")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var flows []struct{ Findings []finding }
	if err := json.Unmarshal(out, &flows); err != nil || len(flows) != 1 {
		t.Fatalf("%v\n%s\n%s", err, out, errs.String())
	}
	return cmd.ProcessState.ExitCode(), flows[0].Findings
}

// wantFindings fails the test unless the findings are these, each as severity, id, cluster and topic, and a text of its meaning.
func wantFindings(t *testing.T, got []finding, want map[string]string) {
	t.Helper()
	missing := maps.Clone(want)
	for _, f := range got {
		key := strings.TrimSpace(strings.Join([]string{f.Severity, f.ID, f.Cluster, f.Topic}, " "))
		text, ok := want[key]
		delete(missing, key)
		switch {
		case !ok:
			t.Errorf("not expected: %s", f)
		case !strings.Contains(f.Meaning, text):
			t.Errorf("no %q in: %s", text, f)
		case f.Mend == "" && f.Command == "":
			t.Errorf("nothing mends %s", f)
		}
	}
	for key := range missing {
		t.Errorf("not found: %s", key)
	}
	if t.Failed() {
		for _, f := range got {
			t.Log(f)
		}
	}
}

// mend runs the commands of findings that change something.
func (p *pair) mend(t *testing.T, findings []finding) {
	t.Helper()
	for _, f := range findings {
		args := strings.Fields(f.Command)
		if len(args) == 0 || args[0] != "kafka-configs.sh" {
			continue
		}
		_, err := p.target.Jars().Tool(within(t, time.Minute, "Kafka's tool ends"), "kafka.admin.ConfigCommand", args[1:]...)
		check(t, err)
	}
}

// produceAt writes records with a timestamp to partition 0 of a source topic.
func (p *pair) produceAt(t *testing.T, topic string, at time.Time, n, size int) {
	t.Helper()
	for i := range n {
		value := make([]byte, size)
		_, _ = rand.Read(value) // never fails; it does not compress
		r := &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: value, Timestamp: at}
		check(t, p.sourceClient.ProduceSync(t.Context(), r).FirstErr())
	}
}

func (p *pair) setConfig(t *testing.T, admin *kadm.Client, topic, name, value string) {
	t.Helper()
	altered, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	check(t, err)
	for _, a := range altered {
		check(t, a.Err)
	}
}

// On clusters where all is well, doctor finds nothing, before the flow has ever run, while it runs and after. Each wrong config is found, and the commands
// that doctor prints mend it.
func TestDoctorFindsWrongConfigs(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	topics := []string{"orders", "sizes", "codecs", "stamps", "limits", "short", "aging", "old", "keys", "full"}
	// Brokers delete a segment by its newest record, so all records of a topic are as old.
	ages := map[string]time.Duration{"limits": time.Hour, "short": time.Hour, "aging": 15 * time.Hour, "old": 23 * time.Hour, "keys": time.Hour}
	for _, topic := range topics {
		switch topic {
		case "aging", "old":
			p.createTopic(topic, 1, 1, "retention.ms=86400000")
		case "keys":
			p.createTopic(topic, 1, 1, "cleanup.policy=compact", "delete.retention.ms=60000")
		case "full":
			p.createTopic(topic, 1, 1, "retention.bytes=1000000")
		default:
			p.createTopic(topic, 1, 1)
		}
		p.produceAt(t, topic, time.Now().Add(-ages[topic]), 3, 10)
	}
	config := p.config(topics...)
	flow := config["flows"].([]daemon.Map)[0]
	flow["configs_sync"] = false // what is planted on copies stays
	healthy := func(when string) {
		t.Helper()
		code, found := p.doctor(t, config)
		if code != 0 {
			t.Errorf("%s: exit code %d", when, code)
		}
		wantFindings(t, found, nil)
	}
	healthy("before the flow ran")
	m := p.startMilena(config)
	p.waitAndVerify(m, 30*time.Second, int64(3*len(topics)), topics...)
	eventually(t, 30*time.Second, "milena has created its topics", func() (bool, string) {
		names, err := topicNames(t.Context(), p.target)
		return slices.Contains(names, "heartbeats"), fmt.Sprint(names, err)
	})
	eventually(t, 30*time.Second, "the copies are journaled", func() (bool, string) {
		late := slices.DeleteFunc(m.partitions(), func(p daemon.Partition) bool { return p.Journaled == p.Acked })
		return len(late) == 0, fmt.Sprint(late)
	})
	healthy("while the flow runs")
	m.stop()
	healthy("after the flow has stopped")

	const journal = "milena.source-target.journal"
	for _, c := range [][3]string{
		{"source.sizes", "max.message.bytes", "100000"},
		{"source.codecs", "compression.type", "gzip"},
		{"source.stamps", "message.timestamp.type", "LogAppendTime"},
		{"source.limits", "message.timestamp.before.max.ms", "60000"},
		{"source.short", "retention.ms", "60000"},
		{"source.orders", "min.insync.replicas", "2"},
		{journal, "segment.bytes", "1073741824"},
		{"heartbeats", "cleanup.policy", "delete"},
	} {
		p.setConfig(t, p.targetAdmin, c[0], c[1], c[2])
	}
	setQuota(t, p.targetAdmin, "producer_byte_rate", 1<<20)
	for topic, age := range ages {
		p.produceAt(t, topic, time.Now().Add(-age), 1, 10)
	}
	p.produceAt(t, "full", time.Now(), 12, 80_000)
	p.readShared(t, "sharing", "orders")

	code, found := p.doctor(t, config)
	if code != 1 {
		t.Errorf("exit code %d with errors among the findings", code)
	}
	wantFindings(t, found, map[string]string{
		"warning message-size target source.sizes":        "batches of 1048588 bytes and its copy of 100000",
		"warning recompression target source.codecs":      "compression.type=gzip",
		"warning timestamp-type target source.stamps":     "LogAppendTime",
		"warning timestamp-limit target source.limits":    "beyond message.timestamp.before.max.ms",
		"warning shorter-retention target source.short":   "older than retention.ms of the copy, 1m0s",
		"warning min-isr target source.orders":            "min.insync.replicas=2 is more than the 1 replica",
		"warning internal-topic-config target " + journal: "segment.bytes=1073741824",
		"warning internal-topic-config target heartbeats": "cleanup.policy=delete",
		"warning retention-lag source aging":              "1 partition is not copied up to records older than 50 % of retention.ms (24h0m0s)",
		"error retention-lag source old":                  "90 % of retention.ms",
		"error tombstones-lag source keys":                "90 % of delete.retention.ms (1m0s)",
		"warning retention-lag source full":               "% of retention.bytes",
		"note quota target":                               "producer_byte_rate=1.048576e+06 of {client-id=milena}",
		"note group-not-followed source":                  "Group sharing is not followed: it is a share group",
	})
	p.mend(t, found)
	code, found = p.doctor(t, config)
	if code != 0 {
		t.Errorf("exit code %d after what doctor says to do", code)
	}
	wantFindings(t, found, map[string]string{
		"note group-not-followed source": "Group sharing is not followed",
	})
}

// The oldest brokers that are tested have other configs and fewer requests. That is nothing to find, and what mends them is what they know.
func TestDoctorOnOldBrokers(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{Version: "1.1.1"}, kafka.Options{Version: "2.8.2"})
	p.createTopic("orders", 1, 1)
	config := p.config("orders")
	code, found := p.doctor(t, config)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantFindings(t, found, nil)
	p.produceAt(t, "orders", time.Now().Add(-time.Hour), 1, 10)
	check(t, kafka.CreateTopic(t.Context(), p.targetAdmin, "source.orders", 1, 1, "message.timestamp.difference.max.ms=60000"))
	_, found = p.doctor(t, config)
	wantFindings(t, found, map[string]string{"warning timestamp-limit target source.orders": "beyond message.timestamp.difference.max.ms"})
	p.mend(t, found)
	_, found = p.doctor(t, config)
	wantFindings(t, found, nil)
}

// readShared lets a share group read a topic of the source, until the source has the group.
func (p *pair) readShared(t *testing.T, group, topic string) {
	t.Helper()
	eventually(t, 2*time.Minute, "the source has the share group", func() (bool, string) {
		_, err := p.source.Jars().Tool(within(t, time.Minute, "the share consumer ends"), "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
			"--bootstrap-server", strings.Join(p.source.Addrs(), ","), "--topic", topic, "--group", group, "--timeout-ms", "3000")
		listed, listErr := p.sourceAdmin.ListGroups(t.Context())
		_, ok := listed[group]
		return ok, fmt.Sprint(listed.Groups(), listErr, err) // that there was nothing to read is an error too
	})
}

// Brokers that are down, cannot be reached, present the wrong certificate or have the wrong time are found, and what that does to replicas.
func TestDoctorFindsSickBrokers(t *testing.T) {
	t.Parallel()
	classes := t.TempDir()
	check(t, requireKafka(t).Compile(t.Context(), filepath.Join("testdata", "SystemTime.java"), classes))
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	security := &kafka.Security{CA: ca, Users: map[string]string{"milena": "s3cret"}, Leaf: func(broker int, template *x509.Certificate) {
		template.NotAfter = time.Now().Add(90 * 24 * time.Hour)
		if broker == 2 {
			template.DNSNames, template.IPAddresses = []string{"elsewhere"}, []net.IP{net.IPv4(10, 0, 0, 1)}
		}
	}}
	p := startPair(t, kafka.Options{Brokers: 2, Proxied: true, Security: security},
		kafka.Options{Brokers: 2, Classes: classes, Properties: map[string]string{"transaction.state.log.min.isr": "2"}})
	p.createTopic("orders", 2, 1)
	p.createTopic("gone", 1, 1)
	check(t, kafka.AssignTopic(t.Context(), p.targetClient, "source.orders", [][]int32{{1, 2}, {2, 1}}, "min.insync.replicas=2"))
	check(t, kafka.AssignTopic(t.Context(), p.targetClient, "source.gone", [][]int32{{2}}))
	check(t, kafka.AssignTopic(t.Context(), p.targetClient, "heartbeats", [][]int32{{1}}, "cleanup.policy=compact"))
	eventually(t, 30*time.Second, "both brokers know the topics", func() (bool, string) {
		for id := 1; id <= 2; id++ {
			response, err := p.targetClient.Broker(id).Request(t.Context(), kmsg.NewPtrMetadataRequest())
			if err != nil {
				return false, err.Error()
			}
			if !slices.ContainsFunc(response.(*kmsg.MetadataResponse).Topics, func(topic kmsg.MetadataResponseTopic) bool { return *topic.Topic == "heartbeats" }) {
				return false, fmt.Sprintf("broker %d does not have the last one", id)
			}
		}
		return true, ""
	})
	pem := filepath.Join(p.dir, "ca.pem")
	check(t, os.WriteFile(pem, ca.PEM, 0o600))
	config := p.config("orders", "gone")
	tls := daemon.Map{"ca_file": pem}
	config["clusters"].(daemon.Map)["source"] = daemon.Map{
		"brokers": p.source.SecureAddrs()[:1], "tls": tls,
		"sasl": daemon.Map{"mechanism": "PLAIN", "username": "milena", "password": "s3cret"},
	}

	healthyTarget := map[string]string{
		"warning clock-skew target":                "is 1m0s ahead of the clock here",
		"warning min-isr target source.orders":     "min.insync.replicas=2 is as many as the replicas",
		"warning single-replica target heartbeats": "one replica on a cluster of 2 brokers",
	}
	both := func(more map[string]string) map[string]string {
		all := maps.Clone(healthyTarget)
		maps.Copy(all, more)
		return all
	}
	byChance := func(f finding) bool { return f.ID == "not-examined" } // which broker is asked is chance
	_, found := p.doctor(t, config)
	wantFindings(t, slices.DeleteFunc(found, byChance), both(map[string]string{
		"error certificate-invalid source": `is for "elsewhere", 10.0.0.1 and not for "127.0.0.1"`,
	}))

	tls["verify"] = "chain"
	check(t, p.source.Broker(2).Proxy().Set(t.Context(), proxy.Refuse))
	_, found = p.doctor(t, config)
	wantFindings(t, slices.DeleteFunc(found, byChance), both(map[string]string{"error broker-unreachable source": "broker 2 (127.0.0.1:"}))
	check(t, p.source.Broker(2).Proxy().Set(t.Context(), proxy.Pass))

	security.Leaf = nil // certificates for a day
	check(t, p.source.Broker(2).Secure(security))
	check(t, p.source.Broker(2).Stop(within(t, time.Minute, "the broker stops")))
	check(t, p.source.Broker(2).Restart(t.Context()))
	p.target.Broker(2).Kill()
	eventually(t, 30*time.Second, "the target notices that a broker is dead", func() (bool, string) {
		metadata, err := p.targetAdmin.Metadata(t.Context())
		return err == nil && len(metadata.Brokers) == 1, fmt.Sprint(metadata.Brokers, err)
	})
	check(t, kafka.WaitWhole(t.Context(), p.sourceAdmin, "source"))
	code, found := p.doctor(t, config)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wantFindings(t, slices.DeleteFunc(found, func(f finding) bool { return strings.HasPrefix(f.Topic, "__") }), map[string]string{
		"warning clock-skew target":                     "ahead of the clock here",
		"warning certificate-expires source":            `The certificate "CN=broker" of broker 2`,
		"error offline target source.gone":              "Partitions 0 have no leader",
		"warning under-replicated target source.orders": "Partitions 0, 1 have replicas that are not in sync",
		"error below-min-isr target source.orders":      "min.insync.replicas=2",
		"warning min-isr target source.orders":          "",
		"error transaction-log target":                  "transaction.state.log.min.isr asks for 2",
	})
}
