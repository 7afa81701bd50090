package e2e_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// topicSync is a flow that copies all topics but one.
type topicSync struct {
	*pair
	m *milena
}

func TestTopicSync(t *testing.T) {
	s := &topicSync{pair: startPair(t, kafka.Options{}, kafka.Options{})}
	s.createTopic("first", 2, 1, "retention.ms=7200000", "compression.type=producer", "max.message.bytes=2000000")
	s.createTopic("secret", 1, 1)
	s.createTopic("mm2-offsets.elsewhere.internal", 1, 1) // of MirrorMaker 2, never replicated
	check(t, s.writer(load.Options{Topic: "first", Partitions: 2}).Write(t.Context(), 100))
	config := s.config(".*")
	flow := config["flows"].([]daemon.Map)[0]
	flow["topics_exclude"] = []string{"secret"}
	flow["configs_interval"] = "2s"
	s.m = s.startMilena(config)
	s.waitAndVerify(s.m, 20*time.Second, 200, "first")

	t.Run("the copy has the source's configs", func(t *testing.T) {
		s.hasConfigs(t, 0, map[string]string{"retention.ms": "7200000", "max.message.bytes": "2000000"})
	})
	t.Run("a new topic is copied within 5 s", s.newTopics)
	t.Run("new partitions are copied within 5 s", s.newPartitions)
	t.Run("only configs that differ are altered", s.changedConfigs)
	t.Run("excluded topics are not copied", s.excludedTopics)
	s.m.stop()
	t.Run("two flows of one process use their own naming", s.naming)
}

// hasConfigs waits until the copy of topic first has these configs.
func (s *topicSync) hasConfigs(t *testing.T, d time.Duration, want map[string]string) {
	t.Helper()
	eventually(t, d+time.Second, fmt.Sprintf("the copy has %v", want), func() (bool, string) {
		all, err := s.targetAdmin.DescribeTopicConfigs(t.Context(), remoteTopic("first"))
		check(t, err)
		one, err := all.On(remoteTopic("first"), nil)
		check(t, err)
		got := map[string]string{}
		for _, c := range one.Configs {
			if _, ok := want[c.Key]; ok {
				got[c.Key] = c.MaybeValue()
			}
		}
		return maps.Equal(got, want), fmt.Sprint(got)
	})
}

// copiedWithin5s waits until a topic is copied to its end, verifies it, and fails the test if that is more than 5 s after start.
func (s *topicSync) copiedWithin5s(t *testing.T, start time.Time, topic string) {
	t.Helper()
	p := s.in(t)
	p.waitCopied(s.m, 20*time.Second, topic)
	took := time.Since(start)
	t.Logf("copied after %.2f s", took.Seconds())
	if took > 5*time.Second {
		t.Errorf("copied after %.1f s", took.Seconds())
	}
	p.verify(remoteTopic, topic)
}

func (s *topicSync) newTopics(t *testing.T) {
	p := s.in(t)
	for i := range 3 {
		topic := fmt.Sprintf("new-%d", i)
		start := time.Now()
		p.createTopic(topic, 3, 1)
		check(t, p.writer(load.Options{Topic: topic, Partitions: 3}).Write(t.Context(), 10))
		s.copiedWithin5s(t, start, topic)
	}
}

func (s *topicSync) newPartitions(t *testing.T) {
	start := time.Now()
	extended, err := s.sourceAdmin.UpdatePartitions(t.Context(), 5, "first")
	check(t, err)
	check(t, extended.Error())
	check(t, s.in(t).writer(load.Options{Topic: "first", Partitions: 5, Shapes: []load.Shape{load.Sized(100)}}).Write(t.Context(), 10))
	s.copiedWithin5s(t, start, "first")
}

// changedConfigs sets two configs on the source and removes one of them again. The others must not change.
func (s *topicSync) changedConfigs(t *testing.T) {
	alterConfigs(t, s.sourceAdmin, "first", "retention.ms=3600000", "segment.bytes=2097152")
	s.hasConfigs(t, 15*time.Second, map[string]string{"retention.ms": "3600000", "segment.bytes": "2097152", "max.message.bytes": "2000000"})
	done, err := s.sourceAdmin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "segment.bytes"}}, "first")
	check(t, err)
	one, err := done.On("first", nil)
	check(t, err)
	check(t, one.Err)
	s.hasConfigs(t, 15*time.Second, map[string]string{"segment.bytes": "1073741824"}) // the brokers' default
}

func (s *topicSync) excludedTopics(t *testing.T) {
	topics, err := topicNames(t.Context(), s.target)
	check(t, err)
	for _, name := range topics {
		if name == "source.secret" || name == "source.mm2-offsets.elsewhere.internal" || name == "source.__consumer_offsets" {
			t.Errorf("%s was copied", name)
		}
	}
}

// naming runs two flows with other naming than prefix over the topics of newTopics.
func (s *topicSync) naming(t *testing.T) {
	p := s.in(t)
	config := p.config()
	config["flows"] = []daemon.Map{
		{"name": "plain", "source": "source", "target": "target", "topics": []string{"new-0"}, "naming": "identity"},
		{"name": "renamed", "source": "source", "target": "target", "naming": "rename", "rename": daemon.Map{"new-1": "renamed-one"}},
	}
	m := p.startMilena(config)
	name := func(topic string) string {
		if topic == "new-1" {
			return "renamed-one"
		}
		return topic
	}
	p.waitCopied(m, 20*time.Second, "new-0", "new-1")
	if n := p.verify(name, "new-0", "new-1"); n != 60 {
		t.Errorf("%d records are equal, want 60", n)
	}
	m.stop()
}
