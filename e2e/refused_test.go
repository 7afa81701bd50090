package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// A topic has records without a key, and becomes compacted afterwards. The target refuses these records, and only these: with skip all others are
// copied, with halt all before the first one, and both name it.
func TestTargetRefusesSingleRecords(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	const batch = 1000
	bad := []int{4, 500, 501, 999}
	for _, topic := range []string{"skipped", "halted"} {
		p.createTopic(topic, 1, 1)
		var records []*kgo.Record
		for i := range batch {
			r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d", i)}
			if slices.Contains(bad, i) {
				r.Key = nil
			}
			records = append(records, r)
		}
		check(t, p.sourceClient.ProduceSync(ctx, records...).FirstErr())
		compact := "compact"
		_, err := p.sourceAdmin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &compact}}, topic)
		check(t, err)
	}
	config := p.config("skipped", "halted")
	config["flows"].([]daemon.Map)[0]["anomalies_by_topic"] = []daemon.Map{{"topics": []string{"skipped"}, "anomalies": daemon.Map{"record_refused": "skip"}}}
	m := p.newMilena("milena", config)
	m.start()
	p.waitCopied(m, time.Minute, "skipped")
	eventually(t, time.Minute, "the other topic is halted", func() (bool, string) {
		for _, part := range m.partitions() {
			if part.Topic == "halted" && part.Anomaly != nil {
				a := part.Anomaly
				if a.From != 4 || a.To != 5 || !strings.Contains(a.Detail, `"value-4"`) || !strings.Contains(a.Detail, "without key") {
					t.Errorf("the anomaly is %+v", *a)
				}
				return part.Acked == 4, fmt.Sprintf("at %d", part.Acked)
			}
		}
		return false, "not halted"
	})
	for topic, want := range map[string]int{"skipped": batch - len(bad), "halted": 4} {
		copied := 0
		check(t, verify.Sequence(ctx, p.targetClient, remoteTopic(topic), 0, func(*kgo.Record) error {
			copied++
			return nil
		}))
		if copied != want {
			t.Errorf("%s: %d records are copied, want %d", topic, copied, want)
		}
	}
	for _, part := range m.partitions() {
		var left []int
		for _, gap := range part.Gaps {
			for o := gap.From; o < gap.To; o++ {
				left = append(left, int(o))
			}
		}
		if part.Topic == "skipped" && !slices.Equal(left, bad) {
			t.Errorf("the ledger has the offsets %v, want %v", left, bad)
		}
	}
	m.stop()
}
