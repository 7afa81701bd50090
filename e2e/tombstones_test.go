package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
)

// A key is deleted on a compacted source while milena is down, and the log cleaner removes the tombstone before milena is back: the copy would
// keep the key for ever. Policy decides.
func TestTombstonesAreCleanedDuringAPause(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	p.createTopic("users", 1, 1, "cleanup.policy=compact", "delete.retention.ms=1000", "min.cleanable.dirty.ratio=0.001", "segment.ms=500")
	p.writeUser(t, "keeps", "1")
	p.writeUser(t, "ann", "1")
	config := p.config("users")
	m := p.startMilena(config)
	p.waitCopied(m, 30*time.Second, "users")
	m.stop()

	p.writeUser(t, "ann", "")
	eventually(t, time.Minute, "the cleaner has removed the tombstone", func() (bool, string) {
		p.writeUser(t, "filler", "x") // rolls the segment: the cleaner leaves the active one alone
		keys := p.userOffsets(t)
		_, ann := keys["ann"]
		return !ann, fmt.Sprint(keys)
	})

	m.start()
	var halted daemon.Partition
	check(t, m.Until(within(t, 30*time.Second, "the partition is halted"), 50*time.Millisecond, func() (bool, string) {
		for _, part := range m.partitions() {
			if part.Topic == "users" && part.Anomaly != nil {
				halted = part
				return true, ""
			}
		}
		return false, fmt.Sprint(m.partitions())
	}))
	if a := halted.Anomaly; a.Kind != "tombstones_cleaned" || a.From != 2 {
		t.Errorf("the anomaly is %+v, want tombstones_cleaned from offset 2 on", *a)
	}
	s := m.waitSignals(10*time.Second, "milena status names it", func(s signals) bool { return s.statusCode == 1 })
	matchLine(t, s.status, `users +0 +halted +tombstones_cleaned: source users-0 was not read for longer than its delete\.retention\.ms`)
	m.stop()

	config["flows"].([]daemon.Map)[0]["anomalies"] = daemon.Map{"tombstones_cleaned": "skip"}
	m = p.newMilena("skipping", config)
	m.start()
	p.waitCopied(m, 30*time.Second, "users")
	m.waitMetric(10*time.Second, 1, "milena_anomalies_total", `kind="tombstones_cleaned"`, `action="skip"`)
	m.waitSignals(20*time.Second, "all is well", signals.isGood)
	m.stop()
}

// writeUser writes one record; an empty value is a tombstone.
func (p *pair) writeUser(t *testing.T, key, value string) {
	t.Helper()
	r := &kgo.Record{Topic: "users", Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	check(t, p.sourceClient.ProduceSync(t.Context(), r).FirstErr())
}

// userOffsets are the newest offsets by key that the source holds.
func (p *pair) userOffsets(t *testing.T) map[string]int64 {
	t.Helper()
	ends, err := p.sourceAdmin.ListEndOffsets(t.Context(), "users")
	check(t, err)
	end, _ := ends.Lookup("users", 0)
	cl, err := p.source.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"users": {0: kgo.NewOffset().AtStart()}}))
	check(t, err)
	defer cl.Close()
	keys := make(map[string]int64)
	for last := int64(-1); last < end.Offset-1; {
		fetches := cl.PollFetches(within(t, 20*time.Second, "the source is read"))
		check(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { keys[string(r.Key)], last = r.Offset, r.Offset })
	}
	return keys
}
