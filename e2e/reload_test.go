package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// reconfigure replaces sections of the config file, as an editor does: it renames a new file over the old one.
func (m *milena) reconfigure(t *testing.T, sections daemon.Map) {
	t.Helper()
	text, err := os.ReadFile(m.Config())
	check(t, err)
	all := daemon.Map{}
	check(t, yaml.Unmarshal(text, &all))
	for key, section := range sections {
		all[key] = section
	}
	text, err = yaml.Marshal(all)
	check(t, err)
	m.replaceConfig(t, string(text))
}

func (m *milena) replaceConfig(t *testing.T, text string) {
	t.Helper()
	check(t, os.WriteFile(m.Config()+".new", []byte(text), 0o600))
	check(t, os.Rename(m.Config()+".new", m.Config()))
}

// waitOutput waits until the log has a text, which it does not have n times yet.
func (m *milena) waitOutput(t *testing.T, text string, n int) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("the log has %q %d times", text, n), func() (bool, string) {
		found := strings.Count(m.Output(), text)
		return found >= n, fmt.Sprint(found)
	})
}

// sectionsOf are the flows of a config: one that is reloaded, one that must not notice, and perhaps more.
func sectionsOf(reloaded []string, more ...daemon.Map) []daemon.Map {
	flow := func(name string, topics ...string) daemon.Map {
		return daemon.Map{"source": "source", "target": "target", "name": name, "topics": topics, "shards": 4}
	}
	return append([]daemon.Map{flow("reloaded", reloaded...), flow("bystander", "bystander")}, more...)
}

// Under load, a reload adds a flow, changes the topics of another one, and a limit. Then a broken file is refused, and one with a key that cannot change, and
// everything goes on. A third flow does not notice: its figures and connections go on.
func TestReload(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	topics := []string{"orders", "joins", "leaves", "late", "bystander"}
	streams := make(map[string]*load.Stream)
	for _, topic := range topics {
		p.createTopic(topic, 2, 1)
		w := p.writer(load.Options{Topic: topic, Partitions: 2})
		check(t, w.Write(ctx, 100))
		streams[topic] = w.Stream(ctx, 200)
	}
	config := p.config()
	config["flows"] = sectionsOf([]string{"orders", "leaves"})
	m := p.startMilena(config)
	p.verifyWhileWriting(m, 30*time.Second, "orders", "leaves", "bystander")

	figures := func() (records, takeovers, disconnects float64) {
		var err error
		records, err = m.Metric(ctx, "milena_records_total", `flow="bystander"`)
		check(t, err)
		takeovers, err = m.Metric(ctx, "milena_takeovers_total", `flow="bystander"`)
		check(t, err)
		for _, side := range []string{"source", "target"} {
			n, _ := m.Metric(ctx, "milena_"+side+"_client_disconnects_total", `flow="bystander"`) // no series before the first
			disconnects += n
		}
		return records, takeovers, disconnects
	}
	records, takeovers, disconnects := figures()

	late := daemon.Map{"source": "source", "target": "target", "name": "late", "topics": []string{"late"}, "shards": 4}
	m.reconfigure(t, daemon.Map{"flows": sectionsOf([]string{"orders", "joins"}, late), "buffer": "48MiB"})
	m.waitOutput(t, `msg="config reloaded" changes="flow reloaded: topics, flow late added, buffer"`, 1)
	m.waitReady(30 * time.Second)
	p.verifyWhileWriting(m, 30*time.Second, "orders", "joins", "late", "bystander")
	if slices.ContainsFunc(m.partitions(), func(p daemon.Partition) bool { return p.Topic == "leaves" }) {
		t.Error("a topic that is not selected is still in the status")
	}

	good, err := os.ReadFile(m.Config())
	check(t, err)
	const refused = "config not reloaded; the one in force stays"
	for i, broken := range []string{
		strings.Replace(string(good), "buffer: 48MiB", "bufer: 48MiB", 1),
		strings.Replace(string(good), "shards: 4", "shards: 8", 1),
	} {
		m.replaceConfig(t, broken)
		m.waitOutput(t, refused, i+1)
		m.waitMetric(10*time.Second, 1, "milena_records_total", `flow="late"`)
		if v, err := m.Metric(ctx, "milena_config_last_reload_successful"); err != nil || v != 0 {
			t.Errorf("the metric is %v, %v", v, err)
		}
		p.verifyWhileWriting(m, 30*time.Second, "orders", "joins", "late", "bystander")
	}
	wantOutput(t, m.Output(), "bufer: unknown key; did you mean", "shards: cannot change while milena runs")
	status, err := exec.CommandContext(ctx, m.Binary(), "status", "--url", m.URL()).CombinedOutput()
	if err == nil {
		t.Error("milena status finds nothing although the file is refused")
	}
	wantOutput(t, string(status), "the config file is refused", "shards: cannot change while milena runs")

	// The topic that has left comes back, by SIGHUP, and goes on where it was.
	m.reconfigure(t, daemon.Map{"flows": sectionsOf([]string{"orders", "joins", "leaves"}, late)})
	check(t, m.Process().Signal(syscall.SIGHUP))
	m.waitMetric(30*time.Second, 1, "milena_config_last_reload_successful")
	acked := int64(0)
	for _, s := range streams {
		n, err := s.Stop(ctx)
		check(t, err)
		acked += n
	}
	p.waitAndVerify(m, time.Minute, acked, topics...)
	m.waitReady(30 * time.Second)

	recordsNow, takeoversNow, disconnectsNow := figures()
	t.Logf("the bystander: records %v, then %v; takeovers %v, then %v; disconnects %v, then %v", records, recordsNow, takeovers, takeoversNow, disconnects, disconnectsNow)
	if recordsNow <= records {
		t.Errorf("the counter of records of the other flow went from %v to %v", records, recordsNow)
	}
	if takeoversNow != takeovers {
		t.Errorf("the other flow had %v takeovers, and now %v", takeovers, takeoversNow)
	}
	if disconnectsNow != disconnects {
		t.Errorf("the other flow had lost %v connections, and now %v", disconnects, disconnectsNow)
	}
	m.stop()
}
