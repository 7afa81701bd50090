package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/instances"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

const controlTopic = "milena.source-target.control"

// command runs a command of milena with the config of a process, and returns what it prints.
func (m *milena) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.tryCommand(t, args...)
	if err != nil {
		t.Fatalf("milena %v: %v\n%s", args, err, out)
	}
	return out
}

func (m *milena) tryCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx := within(t, time.Minute, "milena "+args[0])
	out, err := exec.CommandContext(ctx, m.Binary(), append(args, "-c", m.Config())...).CombinedOutput()
	return string(out), err
}

// of returns the partitions of a topic, in order.
func (m *milena) of(topic string) []daemon.Partition {
	return slices.DeleteFunc(m.partitions(), func(p daemon.Partition) bool { return p.Topic != topic })
}

// waitPaused waits until n partitions of a topic are paused and nothing of them is on its way, and returns up to where they are copied.
func (m *milena) waitPaused(t *testing.T, d time.Duration, topic string, n int) map[int32]int64 {
	t.Helper()
	acked := make(map[int32]int64)
	eventually(t, d, topic+" is paused", func() (bool, string) {
		clear(acked)
		for _, p := range m.of(topic) {
			if p.State == "paused" && p.Paused != nil && p.Next == p.Acked {
				acked[p.Partition] = p.Acked
			}
		}
		return len(acked) == n, fmt.Sprint(acked)
	})
	return acked
}

// People control a flow through its control topic, on real brokers.
func TestControl(t *testing.T) {
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 3, 1, "retention.ms=-1")
	p.createTopic("bystander", 2, 1)
	s := p.writer(load.Options{Topic: "orders", Partitions: 3}).Stream(ctx, 1000)
	bystander := p.writer(load.Options{Topic: "bystander", Partitions: 2})
	m := p.newMilena("milena", p.config("orders", "bystander"))
	m.start()
	m.waitReady(30 * time.Second)

	t.Run("a pause survives kill -9", func(t *testing.T) {
		out := m.command(t, "pause", "--topic", "orders", "--reason", "ticket 17")
		if !regexp.MustCompile(`(?m)^pause topic orders: ticket 17\n  \S+: done: paused 3 partitions$`).MatchString(out) {
			t.Errorf("pause prints\n%s", out)
		}
		was := m.waitPaused(t, 5*time.Second, "orders", 3)
		m.Kill()
		m.start()
		m.waitReady(30 * time.Second)
		check(t, bystander.Write(ctx, 500))
		p.in(t).waitAndVerify(m, 30*time.Second, bystander.Acked(), "bystander")
		if now := m.waitPaused(t, 5*time.Second, "orders", 3); !maps.Equal(now, was) {
			t.Errorf("while paused, the copy went from %v to %v", was, now)
		}
		for _, part := range m.of("orders") {
			if part.LagRecords == nil || part.Paused.Why != "ticket 17" || part.Paused.Who == "" {
				t.Errorf("%+v", part)
			}
		}
		if out := m.command(t, "log"); !strings.Contains(out, "pause topic orders: ticket 17") || !strings.Contains(out, "paused 3 partitions") {
			t.Errorf("log prints\n%s", out)
		}
	})
	t.Run("nonsense changes nothing and is named", func(t *testing.T) {
		key := []byte("decision/pause/topic/orders")
		check(t, p.targetClient.ProduceSync(ctx,
			&kgo.Record{Topic: controlTopic, Key: key, Value: []byte("resume, please")},
			&kgo.Record{Topic: controlTopic, Key: []byte("decision/pause/flow"), Value: []byte(`{"v":1,"id":"x","what":"pause","scope":{"kind":"flow"},"who":"","when":"2026-01-01T00:00:00Z"}`)},
		).FirstErr())
		eventually(t, 5*time.Second, "both are ignored", func() (bool, string) {
			flows, err := m.Status(ctx)
			return err == nil && len(flows) == 1 && flows[0].Control.Ignored == 2, fmt.Sprint(err)
		})
		flows, err := m.Status(ctx)
		check(t, err)
		if last := flows[0].Control.LastIgnored; !strings.Contains(last[0].Why, "not a record of milena") || !strings.Contains(last[1].Why, "who is missing") || last[1].Offset != last[0].Offset+1 {
			t.Errorf("%+v", last)
		}
		m.waitPaused(t, 5*time.Second, "orders", 3)
	})
	t.Run("a resumed topic is complete", func(t *testing.T) {
		m.command(t, "resume", "--topic", "orders")
		acked, err := s.Stop(ctx)
		check(t, err)
		p.in(t).waitAndVerify(m, time.Minute, acked, "orders")
	})
	t.Run("the history outlives kill -9", func(t *testing.T) {
		out := m.command(t, "log", "--kind", "start,takeover")
		if !strings.Contains(out, "the process before did not stop, but ended") || !strings.Contains(out, "2 times until ") {
			t.Errorf("log prints\n%s", out)
		}
		m.stop()
	})
	t.Run("a gap is skipped without a restart", func(t *testing.T) {
		p := p.in(t)
		p.createTopic("gapped", 1, 1)
		gapped := p.config("gapped")
		gapped["flows"].([]daemon.Map)[0]["name"] = "gapped"
		m := p.newMilena("gapped", gapped)
		w := p.writer(load.Options{Topic: "gapped", Partitions: 1})
		check(t, w.Write(ctx, 500))
		m.start()
		p.waitAndVerify(m, 30*time.Second, w.Acked(), "gapped")
		m.command(t, "pause", "--partition", "gapped-0", "--reason", "to lose records")
		check(t, w.Write(ctx, 500))
		gone := kadm.Offsets{}
		gone.Add(kadm.Offset{Topic: "gapped", Partition: 0, At: 600})
		done, err := p.sourceAdmin.DeleteRecords(ctx, gone)
		check(t, err)
		check(t, done.Error())
		m.command(t, "resume", "--partition", "gapped-0")
		halted := func() (bool, string) {
			part := m.of("gapped")[0]
			return part.State == "halted", part.State
		}
		eventually(t, 20*time.Second, "it is halted", halted)
		if out, err := m.tryCommand(t, "retry", "--partition", "gapped-0"); err == nil || !strings.Contains(out, "halted again at offset 500: retention_gap") {
			t.Errorf("%v\n%s", err, out)
		}
		eventually(t, 20*time.Second, "its halt is in the journal", func() (bool, string) {
			out, _ := m.tryCommand(t, "skip", "--partition", "gapped-0", "--reason", "expected", "--dry-run")
			return strings.Contains(out, "left out: source offsets 500 to 599"), out
		})
		m.command(t, "skip", "--partition", "gapped-0", "--reason", "expected")
		eventually(t, 20*time.Second, "it is copied to the end", func() (bool, string) {
			part := m.of("gapped")[0]
			return part.State == "replicating" && part.Acked == 1000, fmt.Sprintf("%+v", part)
		})
		eventually(t, 20*time.Second, "the history has the anomaly and its repair", func() (bool, string) {
			out := m.command(t, "log", "--kind", "anomaly", "--topic", "gapped")
			return regexp.MustCompile(`gapped-0 +retention_gap, source offsets 500 to 599: .*halt, then (skip|retry) at `).MatchString(out), out
		})
		m.stop()
		p.source.Broker(1).Kill()
		out := m.command(t, "log", "--since", "1h") // neither the source nor a milena is there
		for _, want := range []string{"start ", "takeover ", "stop ", "pause partition gapped-0: to lose records", "batches in flight"} {
			if !strings.Contains(out, want) {
				t.Errorf("the history lacks %q:\n%s", want, out)
			}
		}
	})
}

// readControl returns when records of the control topic were written, by the beginning of their keys.
func readControl(t *testing.T, c *kafka.Cluster) map[string][]time.Time {
	t.Helper()
	cl := client(t, c)
	admin := kadm.NewClient(cl)
	ends, err := admin.ListEndOffsets(t.Context(), controlTopic)
	check(t, err)
	end, _ := ends.Lookup(controlTopic, 0)
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{controlTopic: {0: kgo.NewOffset().AtStart()}})
	ctx := within(t, 20*time.Second, "the control topic is read")
	times := make(map[string][]time.Time)
	for last := int64(-1); last < end.Offset-1; {
		fetches := cl.PollFetches(ctx)
		check(t, context.Cause(ctx))
		fetches.EachRecord(func(r *kgo.Record) {
			last = r.Offset
			for _, prefix := range []string{"decision/", "outcome/"} {
				if strings.HasPrefix(string(r.Key), prefix) {
					times[prefix] = append(times[prefix], r.Timestamp)
				}
			}
		})
	}
	return times
}

// Two processes obey one pause within a second, and answer both.
func TestControlOfTwoInstances(t *testing.T) {
	outer := startPair(t, kafka.Options{}, kafka.Options{})
	s := outer.share("shared", 40)
	s.startInstances(2)
	out := s.list[0].command(t, "pause", "--reason", "both")
	answered := time.Now()
	if n := strings.Count(out, ": done: paused "); n != 2 {
		t.Errorf("%d instances answered:\n%s", n, out)
	}
	paused := 0
	for _, m := range s.list {
		for _, p := range m.of("shared") {
			if p.State == "paused" {
				paused++
			}
		}
	}
	if paused != 40 {
		t.Errorf("%d of 40 partitions are paused", paused)
	}
	resumed := time.Now()
	s.list[1].command(t, "resume")
	s.verifyShared(s.list...)
	all, err := instances.Standstills(t.Context(), s.targetClient, remoteTopic("shared"), 40, 0)
	check(t, err)
	stood := make(map[int32]bool)
	for _, still := range all {
		if still.From.Before(answered.Add(time.Second)) && still.To.After(resumed) {
			stood[still.Partition] = true
		}
	}
	if len(stood) != 40 {
		t.Errorf("%d of 40 partitions stood still from the answer to the resume", len(stood))
	}
	times := readControl(t, s.target)
	for i, answer := range times["outcome/"][:2] {
		took := answer.Sub(times["decision/"][0])
		t.Logf("instance %d had nothing in flight %v after the pause was written", i, took)
		if took > time.Second {
			t.Errorf("instance %d took %v", i, took)
		}
	}
	for _, m := range s.list {
		m.stop()
	}
}

// Who has no right to write the control topic decides nothing. A flow without rights on it runs, and says that it cannot be controlled.
func TestControlNeedsRights(t *testing.T) {
	t.Parallel()
	ca, err := kafka.NewAuthority("the authority")
	check(t, err)
	security := &kafka.Security{CA: ca, Users: map[string]string{"milena": aclPassword, "mallory": aclPassword}}
	authorized := map[string]string{"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS"}
	p := startPair(t, kafka.Options{}, kafka.Options{Security: security, Properties: authorized})
	ctx := t.Context()
	p.createTopic("orders", 1, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: 1})
	check(t, w.Write(ctx, 500))
	check(t, kafka.CreateTopic(ctx, p.targetAdmin, controlTopic, 1, 1, "cleanup.policy=compact"))
	createACLs(t, p.targetClient,
		"ALLOW ALL milena topic source.+", "ALLOW ALL milena topic milena.source-target.journal", "ALLOW WRITE milena txn milena.source-target.+", "ALLOW READ milena group *",
		"ALLOW ALL milena topic heartbeats", "ALLOW ALL milena topic mm2-offset-syncs.source.internal",
		"ALLOW READ mallory topic milena.+", "ALLOW READ mallory group *")
	caFile := filepath.Join(p.dir, "ca.pem")
	check(t, os.WriteFile(caFile, ca.PEM, 0o600))
	as := func(name, user string) *milena {
		config := p.config("orders")
		config["clusters"].(daemon.Map)["target"] = daemon.Map{
			"brokers": p.target.SecureAddrs(), "tls": daemon.Map{"ca_file": caFile}, "sasl": daemon.Map{"mechanism": "PLAIN", "username": user, "password": aclPassword},
		}
		return p.newMilena(name, config)
	}
	m, mallory := as("milena", "milena"), as("mallory", "mallory")
	out, _ := m.tryCommand(t, "check")
	for _, want := range []string{"the flow runs and cannot be controlled", controlTopic} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	m.start()
	p.waitAndVerify(m, 30*time.Second, w.Acked(), "orders")
	problem := func() string {
		flows, err := m.Status(ctx)
		if err != nil || len(flows) == 0 {
			return fmt.Sprint(err)
		}
		return flows[0].Control.Problem
	}
	eventually(t, 10*time.Second, "the status says so", func() (bool, string) { return strings.Contains(problem(), "grant READ and WRITE"), problem() })
	createACLs(t, p.targetClient, "ALLOW READ milena topic "+controlTopic)
	out, _ = p.newMilena("anybody", p.config("orders")).tryCommand(t, "restart-copy", "orders", "--timeout", "2s", "--reason", "a test")
	eventually(t, 20*time.Second, "with READ alone a command is refused that would be done again at each start", func() (bool, string) {
		return strings.Contains(m.Output(), "would be done again at each start"), out
	})
	p.verify(remoteTopic, "orders")
	createACLs(t, p.targetClient, "ALLOW WRITE milena topic "+controlTopic)
	eventually(t, 20*time.Second, "with the rights it can be controlled", func() (bool, string) { return problem() == "", problem() })

	if out, err := mallory.tryCommand(t, "pause", "--reason", "no right"); err == nil || !strings.Contains(out, "grant READ and WRITE") {
		t.Errorf("pause without the right: %v\n%s", err, out)
	}
	cl := saslClient(t, p.target, ca, "mallory", aclPassword)
	if err := cl.ProduceSync(within(t, 20*time.Second, "the refusal"), &kgo.Record{Topic: controlTopic, Value: []byte("x")}).FirstErr(); !strings.Contains(fmt.Sprint(err), kerr.TopicAuthorizationFailed.Message) {
		t.Errorf("a record without the right: %v", err)
	}
	if part := m.of("orders")[0]; part.State != "replicating" {
		t.Errorf("%+v", part)
	}
	m.command(t, "pause", "--reason", "with the right")
	m.waitPaused(t, 5*time.Second, "orders", 1)
	m.stop()
}
