package versions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// The limits of a service, and what its brokers say.
const (
	metadataLimit  = 100
	refusedName    = "a topic named never is not allowed"
	refusedSegment = "Config property 'segment.bytes' must be at least 52428800"
	refusedRoll    = "Config property 'segment.ms' is not allowed"
	refusedAlter   = "file.delete.delay.ms is not yours to set"
	refusedMany    = "topics are allowed in a request"
	tooMuchData    = "group wordy has metadata with its committed offset that is longer than the target accepts"
	allIsWell      = "no partition needs attention"
	ownJournal     = "milena.source-target.journal"
)

// Limits copies to a target with the limits of a managed service: policies that refuse configs and a topic, few topics per request, short
// transactions, short metadata of committed offsets. What check says is what run does, and both have the brokers' sentences. What can be copied is
// copied, and while something cannot, status does not say that all is well.
func Limits(t *testing.T, o Options, target Age) {
	t.Helper()
	classes := t.TempDir()
	if err := o.Jars.Policies(t.Context(), classes); err != nil {
		t.Fatal(err)
	}
	service := target.Options
	service.Classes = classes
	service.Properties = map[string]string{
		"create.topic.policy.class.name": kafka.Policy, "alter.config.policy.class.name": kafka.Policy, "authorizer.class.name": kafka.Requests,
		"transaction.max.timeout.ms": "60000", "offset.metadata.max.bytes": fmt.Sprint(metadataLimit),
	}
	s := newScene(t, o, kafka.Options{}, service)
	s.serviceLimitsRequests()
	written := s.createMany(4*kafka.MostTopics+2, "retention.ms=7200000", "segment.bytes=16777216")
	s.checkLeavesOut(o)
	s.startMilena()
	s.verify(written)
	s.journalIsCompacted()
	s.until(30*time.Second, "all is well", func() (bool, string) {
		code, out := s.verb("status", "--url", s.milena.URL())
		return code == 0 && strings.Contains(out, allIsWell), out
	})
	s.wantText("the log", s.milena.Output(), refusedSegment, refusedRoll)
	s.rejectText("the log", s.milena.Output(), refusedMany)

	s.commitLongMetadata()
	s.setConfig("many-0", "file.delete.delay.ms", "3000")
	s.waitStatus(tooMuchData, "OFFSET_METADATA_TOO_LARGE", "offset.metadata.max.bytes", refusedAlter)
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 {
		t.Errorf("check: exit code %d", code)
	}
	s.wantText("check", out, "offset.metadata.max.bytes", refusedAlter)
	s.stopMilena()

	s.refusesTopic(o)
}

// serviceLimitsRequests checks that the target refuses a request that creates more topics than it allows, and all of them.
func (s *scene) serviceLimitsRequests() {
	s.t.Helper()
	var names []string
	for i := range kafka.MostTopics + 1 {
		names = append(names, fmt.Sprint("probe-", i))
	}
	answers, err := kadm.NewClient(s.targetClient).ValidateCreateTopics(s.t.Context(), 1, 1, nil, names...)
	s.check(err)
	for _, answer := range answers {
		if !strings.Contains(answer.ErrMessage, refusedMany) {
			s.t.Fatalf("%s: %v, %s", answer.Topic, answer.Err, answer.ErrMessage)
		}
	}
}

// createMany creates topics on the source and writes to each.
func (s *scene) createMany(n int, configs ...string) (written int64) {
	s.t.Helper()
	for i := range n {
		topic := fmt.Sprint("many-", i)
		s.createTopic(topic, 1, 1, configs...)
		w := s.writer(load.Options{Topic: topic, Partitions: 1})
		s.check(w.Write(s.t.Context(), 20))
		written += w.Acked()
	}
	return written
}

// checkLeavesOut prepares a milena. Its check passes, and names what topics are created without.
func (s *scene) checkLeavesOut(o Options) {
	s.t.Helper()
	s.newMilena(o, nil)
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 {
		s.t.Errorf("check: exit code %d", code)
	}
	for _, topic := range s.topics {
		s.wantText("check", out, "topic "+remote(topic)+" is created without segment.bytes")
	}
	s.wantText("check", out, refusedSegment, "topic "+ownJournal+" is created without segment.ms", refusedRoll)
	s.rejectText("check", out, refusedMany, "refused: ")
}

// journalIsCompacted checks that the journal has the one config that it cannot do without.
func (s *scene) journalIsCompacted() {
	s.t.Helper()
	described, err := kadm.NewClient(s.targetClient).DescribeTopicConfigs(s.t.Context(), ownJournal)
	s.check(err)
	own := make(map[string]string)
	for _, c := range described[0].Configs {
		if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
			own[c.Key] = c.MaybeValue()
		}
	}
	if !maps.Equal(own, map[string]string{"cleanup.policy": "compact"}) {
		s.t.Errorf("the journal has %v", own)
	}
}

// commitLongMetadata commits an offset with more metadata than the target accepts.
func (s *scene) commitLongMetadata() {
	s.t.Helper()
	var list kadm.Offsets
	list.Add(kadm.Offset{Topic: "many-0", Partition: 0, At: 7, LeaderEpoch: -1, Metadata: strings.Repeat("x", 2*metadataLimit)})
	s.check(kadm.NewClient(s.sourceClient).CommitAllOffsets(s.t.Context(), "wordy", list))
}

// setConfig changes a config of a source topic.
func (s *scene) setConfig(topic, name, value string) {
	s.t.Helper()
	altered, err := kadm.NewClient(s.sourceClient).AlterTopicConfigs(s.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	s.check(err)
	_, err = altered.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	s.check(err)
}

// refusesTopic adds a topic that the target refuses. All others are copied, and everything that a user sees says why this one is not.
func (s *scene) refusesTopic(o Options) {
	s.t.Helper()
	w := s.writer(load.Options{Topic: "many-1", Partitions: 1})
	s.check(w.Write(s.t.Context(), 100))
	s.check(kafka.CreateTopic(s.t.Context(), kadm.NewClient(s.sourceClient), "never", 1, 1))
	s.newMilena(o, daemon.Map{"topics": append(slices.Clone(s.topics), "never")})
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 1 {
		s.t.Errorf("check: exit code %d", code)
	}
	s.wantText("check", out, "refused: ", refusedName)
	s.startMilena()
	s.waitCopied()
	s.waitStatus("never", refusedName)
	s.wantText("the log", s.milena.Output(), refusedName)
	s.waitMetric(1, "milena_topics_not_copied")
	s.stopMilena()
}

// waitStatus waits until status has the texts, exits with 1 and does not say that all is well.
func (s *scene) waitStatus(texts ...string) {
	s.t.Helper()
	s.until(30*time.Second, fmt.Sprintf("status says %q", texts), func() (bool, string) {
		code, out := s.verb("status", "--url", s.milena.URL())
		has := !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(out, text) })
		return has && code == 1 && !strings.Contains(out, allIsWell), fmt.Sprintf("exit code %d\n%s", code, out)
	})
}

// NoTransactions copies to a target whose brokers can never create their transaction log. Check refuses that, and run names the broker's config within
// 30 s wherever a user looks.
func NoTransactions(t *testing.T, o Options, target Age) {
	t.Helper()
	const key = "set transaction.state.log.replication.factor to at most 1"
	options := target.Options
	options.Properties = map[string]string{"transaction.state.log.replication.factor": "3"}
	s := newScene(t, o, kafka.Options{}, options)
	s.createMany(1)
	s.newMilena(o, nil)
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 1 {
		t.Errorf("check: exit code %d", code)
	}
	s.wantText("check", out, "refused: ", key)
	s.check(s.milena.Start(t.Context()))
	s.waitStatus("not ready", key)
	notReady, _ := s.milena.Diagnose(context.WithoutCancel(t.Context()))
	s.wantText("/readyz", notReady, key)
	s.wantText("the log", s.milena.Output(), key)
	s.stopMilena()
}

// NoGroups copies to a target whose brokers can never create the topic of their consumer groups. Records are copied, and check and run name the
// broker's config.
func NoGroups(t *testing.T, o Options, target Age) {
	t.Helper()
	const key = "set offsets.topic.replication.factor to at most 1"
	options := target.Options
	options.Properties = map[string]string{"offsets.topic.replication.factor": "3"}
	s := newScene(t, o, kafka.Options{}, options)
	written := s.createMany(1)
	s.newMilena(o, nil)
	code, out := s.verb("check", "-c", s.milena.Config())
	if code != 0 {
		t.Errorf("check: exit code %d", code)
	}
	s.wantText("check", out, "warning: ", key)
	s.startMilena()
	s.verify(written)
	s.waitStatus(key)
	s.wantText("the log", s.milena.Output(), key)
	s.stopMilena()
}
