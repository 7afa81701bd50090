package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

type admin = kadm.Client

func TestTopicSync(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("there", 2, 1, "retention.ms=7200000", "compression.type=producer", "max.message.bytes=2000000")
	p.createTopic("secret", 1, 1)
	// An internal topic of MirrorMaker 2, which is never replicated.
	p.createTopic("mm2-offsets.elsewhere.internal", 1, 1)
	w := p.writer(load.Options{Topic: "there", Partitions: 2})
	check(t, w.Write(ctx, 100))
	config := p.config(".*")
	flow := config["flows"].([]daemon.Map)[0]
	flow["topics_exclude"] = []string{"secret"}
	flow["configs_interval"] = "2s"
	m := p.startMilena(config)
	p.waitAndVerify(m, 20*time.Second, 200, "there")

	config1 := func(topic, key string) string {
		t.Helper()
		all, err := p.targetAdmin.DescribeTopicConfigs(ctx, topic)
		check(t, err)
		one, err := all.On(topic, nil)
		check(t, err)
		for _, c := range one.Configs {
			if c.Key == key {
				return c.MaybeValue()
			}
		}
		return ""
	}
	alter := func(t *testing.T, a *kadm.Client, topic string, changes ...kadm.AlterConfig) {
		t.Helper()
		done, err := a.AlterTopicConfigs(ctx, changes, topic)
		check(t, err)
		r, err := done.On(topic, nil)
		check(t, err)
		check(t, r.Err)
	}
	value := func(s string) *string { return &s }

	t.Run("the copy has the source's partitions and configs", func(t *testing.T) {
		for key, want := range map[string]string{"retention.ms": "7200000", "max.message.bytes": "2000000"} {
			if got := config1(remoteTopic("there"), key); got != want {
				t.Errorf("%s is %s, want %s", key, got, want)
			}
		}
	})
	t.Run("a new topic is copied within 5 s", func(t *testing.T) {
		p := p.in(t)
		for i := range 3 {
			topic := fmt.Sprintf("new-%d", i)
			start := time.Now()
			p.createTopic(topic, 3, 1)
			check(t, p.writer(load.Options{Topic: topic, Partitions: 3}).Write(ctx, 10))
			p.waitCopied(m, 20*time.Second, topic)
			took := time.Since(start)
			t.Logf("copied %.2f s after its creation", took.Seconds())
			if took > 5*time.Second {
				t.Errorf("a new topic is copied after %.1f s", took.Seconds())
			}
			p.verify(remoteTopic, topic)
		}
	})
	t.Run("new partitions are copied within 5 s", func(t *testing.T) {
		p := p.in(t)
		start := time.Now()
		grown, err := p.sourceAdmin.UpdatePartitions(ctx, 5, "there")
		check(t, err)
		check(t, grown.Error())
		check(t, p.writer(load.Options{Topic: "there", Partitions: 5, Shapes: []load.Shape{load.Sized(100)}}).Write(ctx, 10))
		p.waitCopied(m, 20*time.Second, "there")
		took := time.Since(start)
		t.Logf("copied %.2f s after their creation", took.Seconds())
		if took > 5*time.Second {
			t.Errorf("new partitions are copied after %.1f s", took.Seconds())
		}
		p.verify(remoteTopic, "there")
	})
	t.Run("only configs that differ are altered", func(t *testing.T) {
		alter(t, p.sourceAdmin, "there", kadm.AlterConfig{Name: "retention.ms", Value: value("3600000")}, kadm.AlterConfig{Name: "segment.bytes", Value: value("2097152")})
		eventually(t, 15*time.Second, "the configs are equal", func() (bool, string) {
			a, b := config1(remoteTopic("there"), "retention.ms"), config1(remoteTopic("there"), "segment.bytes")
			return a == "3600000" && b == "2097152", a + " " + b
		})
		if got := config1(remoteTopic("there"), "max.message.bytes"); got != "2000000" {
			t.Errorf("max.message.bytes is %s", got)
		}
		alter(t, p.sourceAdmin, "there", kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "segment.bytes"})
		eventually(t, 15*time.Second, "a config that is removed on the source is removed", func() (bool, string) {
			got := config1(remoteTopic("there"), "segment.bytes")
			return got == "1073741824", got
		})
	})
	t.Run("excluded topics are not copied", func(t *testing.T) {
		topics, err := topicNames(ctx, p.target)
		check(t, err)
		for _, name := range topics {
			if name == "source.secret" || name == "source.mm2-offsets.elsewhere.internal" || name == "source.__consumer_offsets" {
				t.Errorf("%s was copied", name)
			}
		}
	})
	t.Run("two flows of one process use their own naming", func(t *testing.T) {
		m.stop()
		p := p.in(t)
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
		report, err := verify.Run(ctx, p.sourceClient, p.targetClient, verify.Options{Topics: []string{"new-0", "new-1"}, Name: name})
		check(t, err)
		if report.Records != 60 || len(report.Differences) > 0 {
			t.Errorf("%d records are equal, want 60; %v", report.Records, report.Differences)
		}
		m.stop()
	})
}
