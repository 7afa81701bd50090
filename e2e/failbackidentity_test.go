package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// With names that stay, the source is killed under load, clients fail over, and come home into the old topics. What only the old source has stays there, and
// everything else is on both sides once, in order; nothing is copied back where it came from.
func TestFailoverAndFailbackIdentity(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	p.createTopic("orders", 3, 1)
	w := p.writer(load.Options{Topic: "orders", Partitions: 3})
	check(t, w.Write(ctx, 300))
	both := p.config("orders")
	both["flows"] = []daemon.Map{
		{"source": "source", "target": "target", "topics": []string{"orders"}, "naming": "identity"},
		{"source": "target", "target": "source", "topics": []string{"orders"}, "naming": "identity", "reverse_of": "source-target"},
	}
	m := p.startMilena(both)
	m.copiesAll(t, "source-target", "orders", 3)
	stream := w.Stream(ctx, 300)
	eventually(t, 30*time.Second, "the load is being copied", func() (bool, string) {
		n := count(readContents(t, p.targetClient, "orders"))
		return n > 400, fmt.Sprintf("%d records on the target", n)
	})
	p.source.Broker(1).Kill()
	_, _ = stream.Stop(within(t, time.Second, "the load ends")) // the source is gone
	w.Close()

	if said := m.recovers(t, "failover"); said.State != "done" || said.Clients.Cluster != "target" {
		t.Errorf("%+v", said)
	}
	p.write(p.target, "orders", 150, "meanwhile")
	check(t, p.source.Broker(1).Restart(ctx))
	check(t, p.source.WaitBrokers(within(t, 30*time.Second, "the source is back"), 1))
	p.write(p.source, "orders", 300, "only the old source")
	if back := m.recovers(t, "failback", "--diverged", "keep", "--freeze", "none"); back.State != "done" || back.Lost.Records < 300 || back.Clients.Cluster != "source" {
		t.Errorf("%+v", back)
	}
	p.write(p.source, "orders", 60, "home again")
	eventually(t, 30*time.Second, "what is written at home is on the target", func() (bool, string) {
		wrong := p.atHome()
		return wrong == "", wrong
	})
	m.stop()
}

// atHome says what is wrong with the records of both sides, empty if nothing is: the source has those of the target in the same order, each once, and
// between them, in one piece, those that were never copied.
func (p *pair) atHome() string {
	p.t.Helper()
	old, here := readContents(p.t, p.sourceClient, "orders"), readContents(p.t, p.targetClient, "orders")
	for partition := range int32(3) {
		copied := make(map[string]bool)
		for _, r := range here[partition] {
			copied[r.id] = true
		}
		var only []int
		shared := slices.DeleteFunc(slices.Clone(old[partition]), func(r logRecord) bool { return !copied[r.id] })
		for i, r := range old[partition] {
			if !copied[r.id] {
				only = append(only, i)
			}
		}
		if len(shared) != len(here[partition]) {
			return fmt.Sprintf("partition %d: %d of the %d records of the target are on the source", partition, len(shared), len(here[partition]))
		}
		for i, r := range shared {
			if r.id != here[partition][i].id {
				return fmt.Sprintf("partition %d: record %d differs: %s and %s", partition, i, r.id, here[partition][i].id)
			}
		}
		if n := len(only); n < 100 || only[n-1]-only[0] != n-1 {
			return fmt.Sprintf("partition %d: %d records are only on the source, from %v", partition, n, strings.Trim(fmt.Sprint(only[:min(n, 3)]), "[]"))
		}
	}
	return ""
}

// count counts the records of all partitions.
func count(all contents) (n int) {
	for _, list := range all {
		n += len(list)
	}
	return n
}

// copiesAll waits until a flow has copied all partitions of a topic. The other half of a pair copies nothing, so nothing is known of its lag.
func (m *milena) copiesAll(t *testing.T, flow, topic string, partitions int) {
	t.Helper()
	check(t, m.Until(within(t, time.Minute, "flow "+flow+" has no lag"), 50*time.Millisecond, func() (bool, string) {
		all, err := m.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		done := 0
		for _, s := range all {
			for _, part := range s.Partitions {
				if s.Flow == flow && part.Topic == topic && part.LagRecords != nil && *part.LagRecords == 0 {
					done++
				}
			}
		}
		return done == partitions, fmt.Sprintf("%d partitions have no lag", done)
	}))
}
