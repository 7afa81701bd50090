package plan_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/plan"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

// A flow that stopped is behind by records of some age and size. What the source will delete of them is found before it does, and also after.
func TestDoctor_lag(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	ages := map[string]time.Duration{"young": 10 * time.Hour, "aging": 15 * time.Hour, "old": 23 * time.Hour, "gone": time.Minute, "keys": time.Hour, "full": time.Minute}
	random := rand.NewChaCha8([32]byte{})
	write := func(topic string) {
		for i := range 10 {
			value := make([]byte, 10_000)
			_, _ = random.Read(value) // never fails; it does not compress
			c.Source.Write(&kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: value, Timestamp: time.Now().Add(-ages[topic])})
		}
	}
	few := func(f *config.Flow) { f.Shards, f.Heartbeats = 4, false }
	for topic := range ages {
		switch topic {
		case "keys":
			c.Source.CreateTopic(topic, 1, "cleanup.policy", "compact", "delete.retention.ms", "60000")
		case "full":
			c.Source.CreateTopic(topic, 1, "retention.bytes", "190000")
		default:
			c.Source.CreateTopic(topic, 1, "retention.ms", "86400000")
		}
		write(topic)
	}
	f := c.Start(few, replicatortest.FastJournal)
	for topic := range ages {
		f.UntilCopied(topic)
		f.UntilJournaled(topic)
	}
	f.Stop()
	parsed := c.Config(few)
	flow := parsed.Flows[0]
	clusters := client.Clusters{Flow: flow, Source: parsed.Clusters[flow.Source], Target: parsed.Clusters[flow.Target], Log: slog.New(slog.DiscardHandler)}
	wantLags(t, clusters)

	for topic := range ages {
		write(topic)
	}
	c.Source.DeleteRecords("gone", 0, 15)
	wantLags(t, clusters,
		[3]string{"error retention-lag gone", "has deleted 5 offsets in 1 partition before they were copied", "--entity-name gone --add-config retention.ms=172800000"},
		[3]string{"error retention-lag old", "older than 90 % of retention.ms (24h0m0s): the source deletes them within 2h24m0s", "--entity-name old --add-config retention.ms=172800000"},
		[3]string{"error tombstones-lag keys", "older than 90 % of delete.retention.ms (1m0s)", "--entity-name keys --add-config delete.retention.ms=7680000"},
		[3]string{"warning retention-lag aging", "older than 50 % of retention.ms", "--entity-name aging --add-config retention.ms=172800000"},
		[3]string{"warning retention-lag full", "of retention.bytes", "--entity-name full --add-config retention.bytes=380000"},
	)
}

// wantLags compares the findings about lag with severity, id and topic, a text of what each means, and the end of its command.
func wantLags(t *testing.T, c client.Clusters, want ...[3]string) {
	t.Helper()
	diagnosis, err := plan.Doctor(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var found []plan.Finding
	for _, f := range diagnosis.Findings {
		if f.ID == plan.RetentionLag || f.ID == plan.TombstonesLag || f.ID == plan.NotExamined {
			found = append(found, f)
		}
	}
	if len(found) != len(want) {
		t.Fatalf("%d findings, want %d: %+v", len(found), len(want), found)
	}
	for i, f := range found {
		if key := fmt.Sprint(f.Severity, " ", f.ID, " ", f.Topic); key != want[i][0] || !strings.Contains(f.Meaning, want[i][1]) || !strings.HasSuffix(f.Command, want[i][2]) || f.Cluster != c.Flow.Source {
			t.Errorf("%+v\nwant %q", f, want[i])
		}
	}
}
