package versions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Heartbeats has a source that knows no default for a replication factor, which brokers have since 2.4. The topic heartbeats is created there all the
// same, whatever the flow's replication_factor is, and is copied.
func Heartbeats(t *testing.T, o Options, source Age, replicationFactor int) {
	t.Helper()
	const topic = "heartbeats"
	s := newScene(t, o, source.Options, Kafka44().Options)
	admin := kadm.NewClient(s.sourceClient)
	if err := kafka.CreateTopic(t.Context(), admin, "probe", 1, -1); err == nil {
		t.Fatalf("%s has a default for replication factors", source.Name)
	}
	written := s.createMany(1)
	settings := daemon.Map{}
	if replicationFactor != 0 {
		settings["replication_factor"] = replicationFactor
	}
	s.newMilena(o, settings)
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 || strings.Contains(out, "warning: ") {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	s.startMilena()
	s.until(time.Minute, "heartbeats of the source are copied", func() (bool, string) {
		c, err := verify.Contents(t.Context(), s.targetClient, remote(topic))
		return err == nil && len(c) == 1 && c[0].Records > 2, fmt.Sprint(c, err)
	})
	topics, err := admin.ListTopics(t.Context(), topic)
	s.check(err)
	if parts := topics[topic].Partitions; len(parts) != 1 || len(parts[0].Replicas) != 1 {
		t.Errorf("%s: %+v", topic, parts)
	}
	s.verify(written)
	if code, out := s.verb("status", "--url", s.milena.URL()); code != 0 || !strings.Contains(out, allIsWell) {
		t.Errorf("status: exit code %d\n%s", code, out)
	}
	if n, err := s.milena.Metric(t.Context(), "milena_internal_topic_errors_total"); err == nil && n > 0 {
		t.Errorf("%v writes to internal topics failed:\n%s", n, s.milena.Tail(20))
	}
	s.stopMilena()
}
