package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// drillReport is the report of a drill, as milena drill prints it.
type drillReport struct {
	Steps []struct {
		Name, Result, Detail string
		Began, Ended         time.Time
	} `json:"steps"`
	Drilled *struct {
		Passed     bool           `json:"passed"`
		RPOSeconds *float64       `json:"rpo_seconds"`
		RTOSeconds *float64       `json:"rto_seconds"`
		Findings   []drillFinding `json:"findings"`
		Checked    int            `json:"checked"`
	} `json:"drilled"`
}

type drillFinding struct{ Kind, Group, Detail string }

// drill runs milena drill, and returns its report and its exit code.
func (m *milena) drill(t *testing.T, args ...string) (*drillReport, int) {
	t.Helper()
	args = append([]string{"drill", "-c", m.Config(), "--freeze", "none", "--no-reverse", "-o", "json"}, args...)
	cmd := exec.CommandContext(t.Context(), m.Binary(), args...)
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	report := &drillReport{}
	if err := json.Unmarshal(out, report); err != nil || report.Drilled == nil {
		t.Fatalf("%v: %s%s", err, out, &messages)
	}
	for _, s := range report.Steps {
		t.Logf("%-10s %-7s %6.3fs %s", s.Name, s.Result, s.Ended.Sub(s.Began).Seconds(), s.Detail)
	}
	t.Logf("%+v", report.Drilled)
	return report, cmd.ProcessState.ExitCode()
}

// groupPositions are the committed offsets of all groups of a cluster but those of milena itself and of the given ones.
func groupPositions(t *testing.T, admin *kadm.Client, without ...string) map[string]int64 {
	t.Helper()
	listed, err := admin.ListGroups(t.Context())
	check(t, err)
	names := slices.DeleteFunc(listed.Groups(), func(name string) bool { return strings.HasPrefix(name, "milena.") || slices.Contains(without, name) })
	positions := make(map[string]int64)
	for name, fetched := range admin.FetchManyOffsets(t.Context(), names...) {
		check(t, fetched.Err)
		positions[name] = -1 // also if it has no offset
		fetched.Fetched.Each(func(o kadm.OffsetResponse) { positions[fmt.Sprintf("%s %s-%d", name, o.Topic, o.Partition)] = o.At })
	}
	return positions
}

// A drill beside load, with groups in the midst of a log, in aborted transactions, at the end, and one that consumes all the time. It is passed, and changes
// nothing. Then somebody moves a group on the target by one record, which the next one finds.
func TestDrill(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 3, 1)
	p.createTopic("payments", 2, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: 3})
	check(t, w.Write(ctx, 900))
	_, err := load.Transactions(ctx, p.source, load.Options{Topic: "payments", Partitions: 2}, 12, 10)
	check(t, err)
	for i := range int64(20) { // some of them in aborted transactions and at markers
		commitOffset(t, p.sourceAdmin, fmt.Sprintf("payments-%02d", i), "payments", int32(i%2), i*3, "")
	}
	for partition := range int32(3) {
		commitOffset(t, p.sourceAdmin, "billing", "orders", partition, int64(partition)*100, "")
	}
	config := p.config("orders", "payments")
	maps.Copy(config["flows"].([]map[string]any)[0], map[string]any{"groups_interval": "500ms", "journal_interval": "500ms", "rpo": "30s", "rto": "5m"})
	m := p.startMilena(config)
	p.waitCopied(m, time.Minute, "orders", "payments")
	stream := w.Stream(ctx, 300)
	consumer, err := p.source.Client(kgo.ConsumerGroup("moving"), kgo.ConsumeTopics("orders"), kgo.AutoCommitInterval(200*time.Millisecond))
	check(t, err)
	defer consumer.Close()
	go func() {
		for ctx.Err() == nil && !consumer.PollFetches(ctx).IsClientClosed() {
			continue
		}
	}()
	eventually(t, 30*time.Second, "all groups are on the target, and the RPO is known", func() (bool, string) {
		at := groupPositions(t, p.targetAdmin)
		return at["billing source.orders-2"] > 0 && at["moving source.orders-0"] > 0 && at["payments-19 source.payments-1"] > 0 && !m.rpo(t).CompleteUpTo.IsZero(), fmt.Sprint(at)
	})
	before := groupPositions(t, p.targetAdmin, "moving")
	dir := filepath.Join(p.dir, "reports")
	report, code := m.drill(t, "--report-dir", dir)
	if d := report.Drilled; code != 0 || !d.Passed || d.Checked != 26 || d.RPOSeconds == nil || d.RTOSeconds == nil {
		t.Errorf("exit code %d: %+v", code, d)
	}
	if after := groupPositions(t, p.targetAdmin, "moving"); !maps.Equal(before, after) {
		t.Errorf("groups were at %v, and are at %v", before, after)
	}
	files, err := os.ReadDir(dir)
	if check(t, err); len(files) != 3 {
		t.Errorf("%v", files)
	}
	eventually(t, 10*time.Second, "the metrics have the drill", func() (bool, string) {
		passed, err := m.Metric(ctx, "milena_drill_passed")
		return err == nil && passed == 1, fmt.Sprint(passed, err)
	})

	commitOffset(t, p.targetAdmin, "billing", "source.orders", 2, before["billing source.orders-2"]+1, "")
	report, code = m.drill(t)
	if f := report.Drilled.Findings; code != 1 || len(f) != 1 || f[0].Kind != "committed" || f[0].Group != "billing" {
		t.Errorf("exit code %d: %+v", code, f)
	}
	_, err = stream.Stop(within(t, 30*time.Second, "all is written"))
	check(t, err)
	p.waitAndVerify(m, time.Minute, 900, "orders", "payments")
}
