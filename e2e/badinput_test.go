package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// runVerb runs a verb of milena with this configuration and returns its exit code and output. A stack trace fails the test.
func (p *pair) runVerb(t *testing.T, verb string, config daemon.Map) (int, string) {
	t.Helper()
	bin, err := buildMilena()
	check(t, err)
	d, err := daemon.New(t.Context(), bin, p.dir, config)
	check(t, err)
	cmd := exec.CommandContext(within(t, 60*time.Second, verb+" ends"), bin, verb, "-c", d.Config())
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^(panic:|goroutine \d+ \[)`).Match(out) {
		t.Errorf("a stack trace:\n%s", out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestBadInputGetsAClearError(t *testing.T) {
	p := startPair(t, kafka.Options{Proxied: true}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("t", 4, 1)
	free, err := proc.FreePorts(ctx, 1)
	check(t, err)
	unreachable := fmt.Sprintf("127.0.0.1:%d", free[0])

	flow := func(changes daemon.Map) daemon.Map {
		f := daemon.Map{"source": "source", "target": "target", "topics": []string{"t"}}
		for k, v := range changes {
			f[k] = v
		}
		return f
	}
	with := func(flows ...daemon.Map) daemon.Map {
		c := p.config("t")
		c["flows"] = flows
		return c
	}
	for _, tt := range []struct {
		name, verb string
		config     daemon.Map
		code       int
		want       []string
	}{
		{"an unknown alias", "run", with(flow(daemon.Map{"target": "nowhere"})), 2, []string{`flows\[0\]\.target.*nowhere`}},
		{"an unknown key", "run", with(flow(daemon.Map{"topicz": "t"})), 2, []string{`topicz`, `milena\.yaml:\d+`}},
		{"an invalid regular expression", "run", with(flow(daemon.Map{"topics": []string{"("}})), 2, []string{`flows\[0\]\.topics`}},
		{"an invalid value", "run", with(flow(daemon.Map{"naming": "creative"})), 2, []string{`flows\[0\]\.naming.*creative`}},
		{"several errors at once", "run", with(flow(daemon.Map{"naming": "creative", "start": "middle"})), 2, []string{`naming`, `start`}},
		{"two flows of the same name", "run", with(flow(nil), flow(nil)), 2, []string{`flows\[1\]`}},
		{"the same cluster on both sides", "run", func() daemon.Map {
			c := p.config("t")
			c["clusters"] = daemon.Map{"source": daemon.Map{"brokers": p.source.Addrs()}, "target": daemon.Map{"brokers": p.source.ProxyAddrs()}}
			return c
		}(), 1, []string{`(?i)same cluster`}},
		{"check: the same cluster on both sides", "check", func() daemon.Map {
			c := p.config("t")
			c["clusters"] = daemon.Map{"source": daemon.Map{"brokers": p.source.Addrs()}, "target": daemon.Map{"brokers": p.source.ProxyAddrs()}}
			return c
		}(), 1, []string{`(?i)same cluster`}},
		{"check: an unreachable cluster", "check", func() daemon.Map {
			c := p.config("t")
			c["clusters"] = daemon.Map{"source": daemon.Map{"brokers": []string{unreachable}}, "target": daemon.Map{"brokers": p.target.Addrs()}}
			return c
		}(), 1, []string{`source.*` + regexp.QuoteMeta(unreachable)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p.in(t)
			code, out := p.runVerb(t, tt.verb, tt.config)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				matchLine(t, out, want)
			}
		})
	}
	t.Run("none of them wrote anything", func(t *testing.T) {
		for _, c := range []*kafka.Cluster{p.source, p.target} {
			hasNoTopics(t, c, "milena.", "source.")
		}
	})
	t.Run("check shows a plan and changes nothing", func(t *testing.T) {
		code, out := p.in(t).runVerb(t, "check", p.config("t"))
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		matchLine(t, out, `t.*source\.t`)
		hasNoTopics(t, p.target, "milena.", "source.t")
	})
	t.Run("a target topic with fewer partitions is extended, and check reports it", func(t *testing.T) { extendsTargetTopic(t, p.in(t)) })
	t.Run("milena waits for a cluster that is down at start", func(t *testing.T) { waitsForCluster(t, p.in(t)) })
}

// hasNoTopics checks that no topic of a cluster begins with one of the prefixes.
func hasNoTopics(t *testing.T, c *kafka.Cluster, prefixes ...string) {
	t.Helper()
	topics, err := topicNames(t.Context(), c)
	check(t, err)
	for _, name := range topics {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				t.Errorf("%s has the topic %s", c.Name(), name)
			}
		}
	}
}

func extendsTargetTopic(t *testing.T, p *pair) {
	t.Helper()
	p.createTopic("narrow", 4, 1)
	w := p.writer(load.Options{Topic: "narrow", Partitions: 4})
	check(t, w.Write(t.Context(), 100))
	check(t, kafka.CreateTopic(t.Context(), p.targetAdmin, remoteTopic("narrow"), 2, 1))
	code, out := p.runVerb(t, "check", p.config("narrow"))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	matchLine(t, out, `source\.narrow.*grow`)
	m := p.startMilena(p.config("narrow"))
	p.waitAndVerify(m, 20*time.Second, w.Acked(), "narrow")
	m.stop()
}

func waitsForCluster(t *testing.T, p *pair) {
	t.Helper()
	w := p.writer(load.Options{Topic: "t", Partitions: 4})
	check(t, w.Write(t.Context(), 100))
	config := p.config("t")
	config["clusters"] = daemon.Map{"source": daemon.Map{"brokers": p.source.ProxyAddrs()}, "target": daemon.Map{"brokers": p.target.Addrs()}}
	check(t, p.source.Network(t.Context(), proxy.Refuse))
	m := p.newMilena("milena", config)
	m.start()
	why := regexp.MustCompile(`(?i)source`)
	check(t, m.Until(within(t, 10*time.Second, "/readyz reports why"), 50*time.Millisecond, func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := m.WaitReady(ctx)
		return err != nil && why.MatchString(err.Error()) && strings.Contains(err.Error(), "503"), fmt.Sprint(err)
	}))
	pause(t, 3*time.Second)
	check(t, p.source.Network(t.Context(), proxy.Pass))
	t.Logf("ready %.2f s after the cluster is reachable", m.waitReady(20*time.Second).Seconds())
	p.waitAndVerify(m, 20*time.Second, w.Acked(), "t")
	m.stop()
}

func topicNames(ctx context.Context, c *kafka.Cluster) ([]string, error) {
	var names []string
	err := c.Admin(func(adm *kadm.Client) error {
		topics, err := adm.ListTopicsWithInternal(ctx)
		names = topics.Names()
		return err
	})
	return names, err
}
