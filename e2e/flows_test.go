package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Two flows of one pair divide the topics. Heartbeats belong to one of them, and nothing halts. Items that select nothing, and a topic that is named
// and left out, are told by check, status and the log.
func TestTwoFlowsOfOnePair(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	for _, topic := range []string{"x.orders", "y.orders", "__audit"} {
		p.createTopic(topic, 2, 1)
		check(t, p.writer(load.Options{Topic: topic, Partitions: 2}).Write(t.Context(), 100))
	}
	config := p.config()
	config["flows"] = []daemon.Map{
		{"source": "source", "target": "target", "name": "first", "topics": []string{"x.*", "x.ordres", "__audit"}, "groups": []string{`"billing"`}},
		{"source": "source", "target": "target", "name": "second", "topics": []string{"y.*"}},
	}
	told := []string{`"x.ordres" is no topic that milena can see; did you mean "x.orders"?`, `"__audit" is left out: it is an internal topic`, `"\"billing\""`}
	code, output := p.runVerb(t, "check", config)
	if code != 0 {
		t.Errorf("check: exit code %d", code)
	}
	wantOutput(t, output, append(told, "leaves heartbeats to flow first, which has the same clusters")...)
	m := p.startMilena(config)
	p.waitAndVerify(m, 30*time.Second, 400, "x.orders", "y.orders")
	s := m.waitSignals(30*time.Second, "status tells the items", func(s signals) bool {
		return s.statusCode == 0 && !slices.ContainsFunc(told, func(text string) bool { return !strings.Contains(s.status, text) })
	})
	t.Logf("%s", s.status)
	wantOutput(t, m.Output(), "item=x.ordres", "item=__audit")

	seen := make(map[string]bool)
	eventually(t, 30*time.Second, "heartbeats are copied", func() (bool, string) {
		c, err := verify.Contents(t.Context(), p.targetClient, remoteTopic("heartbeats"))
		return err == nil && len(c) == 1 && c[0].Records > 5, fmt.Sprint(c, err)
	})
	check(t, verify.Sequence(t.Context(), p.targetClient, remoteTopic("heartbeats"), 0, func(r *kgo.Record) error {
		if key := fmt.Sprintf("%s %d", r.Value, r.Timestamp.UnixNano()); seen[key] {
			t.Errorf("a heartbeat is there twice")
		} else {
			seen[key] = true
		}
		return nil
	}))
	m.stop()
}
