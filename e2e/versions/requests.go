package versions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
)

// PartitionsPerRequest copies more partitions than a KRaft controller creates in one request. Check and run do not run into that limit. The source is a
// fake, because only what the target creates counts.
func PartitionsPerRequest(t *testing.T, o Options, target Age) {
	t.Helper()
	const topics, partitions = 51, 200 // a controller creates 10,000 partitions
	options := target.Options
	options.Name, options.Dir, options.JVM = "target", o.Dir, []string{"-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	cluster, err := kafka.Start(t.Context(), o.Jars, options)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, target: cluster}
	s.targetClient = s.client(cluster)
	for i := range topics {
		s.topics = append(s.topics, fmt.Sprint("wide-", i))
	}
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, s.topics...))
	s.check(err)
	t.Cleanup(fake.Close)
	admin := kadm.NewClient(s.targetClient)
	answers, err := admin.ValidateCreateTopics(t.Context(), partitions, 1, nil, s.topics...)
	s.check(err)
	for _, answer := range answers {
		if answer.Err == nil || !strings.Contains(answer.ErrMessage, "large number of partitions per request") {
			t.Fatalf("the target has no limit: %v, %s", answer.Err, answer.ErrMessage)
		}
	}
	s.newMilenaOf(o, fake.ListenAddrs(), daemon.Map{"heartbeats": false})
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 || strings.Contains(out, "refused: ") {
		t.Errorf("check: exit code %d\n%s", code, out)
	}
	s.check(s.milena.Start(t.Context()))
	s.check(s.milena.WaitReady(s.within(8*time.Minute, "milena is ready")))
	created, err := admin.ListTopics(t.Context())
	s.check(err)
	for _, topic := range s.topics {
		if n := len(created[remote(topic)].Partitions); n != partitions {
			t.Errorf("%s has %d partitions", remote(topic), n)
		}
	}
	s.rejectText("the log", s.milena.Output(), "POLICY_VIOLATION")
	s.stopMilena()
}
