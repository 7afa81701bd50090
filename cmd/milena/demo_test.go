package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestDemoVerifiesItsCopy(t *testing.T) {
	code, stdout, stderr := milena(t, "demo", "--for", "1500ms", "--rate", "5000", "--listen", "127.0.0.1:0")
	if code != exitClean || !strings.Contains(stdout, "in 18 partitions: same bytes, same order, none missing, none duplicated") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// A record that is too large halts its partition, the demo does what the hint says, and nothing is missing; a group follows its topic.
func TestDemoRepairsAnAnomaly(t *testing.T) {
	code, stdout, stderr := milena(t, "demo", "--for", "3s", "--rate", "2000", "--listen", "127.0.0.1:0")
	for _, want := range []string{
		"uploads-0 is halted: record_too_large", "milena retry --partition uploads-0", "done: uploads-0", "in 19 partitions: same bytes",
		"group billing continues on dr with the same record as on primary, in 4 partitions of payments",
	} {
		if code != exitClean || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, without %q\n%s\n%s", code, want, stdout, stderr)
		}
	}
}

// At the end the source is lost: nothing is missing, and the group continues on the target.
func TestDemoFailsOver(t *testing.T) {
	code, stdout, stderr := milena(t, "demo", "--for", "1500ms", "--rate", "2000", "--listen", "127.0.0.1:0", "--failover")
	for _, want := range []string{
		"same bytes, same order, none missing", "Cluster primary is gone", "no record that was seen is missing", "failover of flow primary-dr from primary to dr: done",
		"clients now use cluster dr", "group billing ",
	} {
		if code != exitClean || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, without %q\n%s\n%s", code, want, stdout, stderr)
		}
	}
}

func TestDemoTakesAnotherPortIfItsOwnIsInUse(t *testing.T) {
	var out bytes.Buffer
	p := newProgram(&out, io.Discard, noEnv)
	first, err := p.listenSomewhere(t.Context(), newRegistry(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.close(t.Context())
	second, err := p.listenSomewhere(t.Context(), newRegistry(), first.address())
	if err != nil {
		t.Fatal(err)
	}
	defer second.close(t.Context())
	if second.address() == first.address() || !strings.Contains(out.String(), first.address()+" is in use") {
		t.Errorf("%s and %s: %s", first.address(), second.address(), out.String())
	}
}

func TestVerifyFindsDifferences(t *testing.T) {
	one, two := emptyClusters(t)
	same := func(topic string) string { return topic }
	fill(t, one, "x", "a", "b")
	fill(t, two, "x", "a", "b")
	if got, err := verifyCopy(t.Context(), one, two, same); err != nil || got.records != 2 || got.partitions != 1 {
		t.Errorf("equal: %+v, %v", got, err)
	}
	for topic, values := range map[string][]string{"swapped": {"b", "a"}, "short": {"a"}, "double": {"a", "b", "b"}} {
		fill(t, one, topic, "a", "b")
		fill(t, two, topic, values...)
	}
	fill(t, one, "absent", "a")
	_, err := verifyCopy(t.Context(), one, two, same)
	for _, want := range []string{
		"swapped-0 and its copy have 2 records each", "short-0 has 2 records, its copy has 1", "double-0 has 2 records, its copy has 3",
		"absent-0 was not copied",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// emptyClusters starts two clusters without topics and returns their addresses.
func emptyClusters(t *testing.T) (one, two []string) {
	t.Helper()
	var all [2][]string
	for i := range all {
		c, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		all[i] = c.ListenAddrs()
	}
	return all[0], all[1]
}

// fill creates a topic of one partition and writes the values to it.
func fill(t *testing.T, brokers []string, topic string, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Value: []byte(v), Timestamp: time.UnixMilli(1_700_000_000_000)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}
