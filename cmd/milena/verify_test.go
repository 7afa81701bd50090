package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/verify"
)

// verifiedClusters starts two clusters with a topic and a copy of it, of which the journal says that all five records are copied. It returns the path of a
// config, and the client of the target.
func verifiedClusters(t *testing.T, copies ...string) (string, *kgo.Client) {
	t.Helper()
	at := time.UnixMilli(1_700_000_000_000)
	start := func(id, topic string, values ...string) (string, *kgo.Client) {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.SeedTopics(1, topic), kfake.SeedTopics(1, "milena.a-b.journal"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		for _, value := range values {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value), Timestamp: at}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		return c.ListenAddrs()[0], cl
	}
	source, _ := start("one", "orders", "0", "1", "2", "3", "4")
	target, cl := start("two", "a.orders", copies...)
	m := offsets.NewMap(0, 0)
	if err := m.Append(0, 0, 5); err != nil {
		t.Fatal(err)
	}
	state := &offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", SourceClusterID: "one", LeaderEpoch: -1}
	changes, _ := m.Changed()
	var entries []offsets.Entry
	for _, chunk := range state.Apply(changes) {
		entries = append(entries, chunk)
	}
	for _, e := range append(entries, state) {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "milena.a-b.journal", Key: e.AppendKey(nil), Value: e.AppendValue(nil)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return file(t, fmt.Sprintf("clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}\nflows: [{source: a, target: b, topics: [orders], heartbeats: false, shards: 1}]\n", source, target)), cl
}

// The exit code is 0 if all is equal.
func TestVerifyOfAnEqualCopy(t *testing.T) {
	t.Parallel()
	path, _ := verifiedClusters(t, "0", "1", "2", "3", "4")
	state := filepath.Join(t.TempDir(), "state.json")
	code, stdout, stderr := milena(t, "verify", "-c", path, "--state", state)
	for _, want := range []string{"flow a-b: a -> b, verified in", "5 records equal", "0 differ", "[0, 5)", "result: equal"} {
		if code != exitClean || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("exit %d, no %q:\n%s\n%s", code, want, stdout, stderr)
		}
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the progress of a complete run is kept")
	}
}

// The exit code is 1 if a record differs, and the output says which one, and what of it.
func TestVerifyOfADifferentCopy(t *testing.T) {
	t.Parallel()
	path, _ := verifiedClusters(t, "0", "1", "x", "3", "4")
	code, stdout, stderr := milena(t, "verify", "-c", path)
	want := "differs: orders-0: 1 record from source offset 2, target offset 2 on: value: the value is 1 bytes"
	if code != exitFailed || !strings.Contains(stdout, want) || !strings.Contains(stderr, "verify: 1 differing record") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, _ = milena(t, "verify", "-c", path, "--output", "json", "--flow", "a-b")
	var r verify.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitFailed || r.Result != verify.Different || r.Records != 4 || r.Differing != 1 || len(r.Partitions) != 1 {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
	for _, field := range []string{`"result": "different"`, `"records_by_content"`, `"source_from": 0`, `"what": "value"`, `"source_offset": 2`, `"target_offset": 2`, `"sample": 1`} {
		if !strings.Contains(stdout, field) {
			t.Errorf("no %s in\n%s", field, stdout)
		}
	}
}

// The exit code is 3 if nothing is known to differ, and not everything could be verified.
func TestVerifyOfWhatCannotBeVerified(t *testing.T) {
	t.Parallel()
	path := twoClusters(t)
	code, stdout, stderr := milena(t, "verify", "-c", path)
	if code != exitUnverified || !strings.Contains(stdout, "topic milena.a-b.journal does not exist on this cluster: start the flow") {
		t.Errorf("a flow that never ran: exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, _, stderr = milena(t, "verify", "-c", path, "--topic", "nothing")
	if code != exitUnverified || !strings.Contains(stderr, "copies no topic nothing of cluster a") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	path, target := verifiedClusters(t, "0", "1", "2", "3") // one record less than the journal says
	if err := target.ProduceSync(t.Context(), &kgo.Record{Topic: "milena.a-b.journal", Key: []byte{0xff}}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = milena(t, "verify", "-c", path)
	if code != exitUnverified || !strings.Contains(stdout, "not verified: orders-0: a.orders-0 on cluster b can be read up to offset 4 only") || !strings.Contains(stderr, "not everything could be verified: 1 partition\n") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// A wrong flag is a sentence that says what is right, and exit code 2. So is the progress of another question.
func TestVerifyWithWrongFlags(t *testing.T) {
	t.Parallel()
	path, _ := verifiedClusters(t, "0", "1", "2", "3", "4")
	state := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(state, []byte(`{"version":1,"flow":"a-b","question":{"topics":["orders"],"sample":1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--output", "xml"}, "--output=xml must be table, json or yaml"},
		{[]string{"--last", "-1h"}, "--last must be longer than 0s"},
		{[]string{"--last", "1h", "--to", "0"}, "--last cannot be combined with --from or --to"},
		{[]string{"--from", "yesterday"}, `--from "yesterday" is neither a time like 2026-01-31T15:04:05Z nor a number of milliseconds`},
		{[]string{"--from", "2026-01-31T15:04:05Z", "--to", "2026-01-31T15:04:05Z"}, "--from must be before --to"},
		{[]string{"--sample", "0%"}, `--sample "0%" is not a part above 0% and up to 100%, such as 1%`},
		{[]string{"--sample", "NaN"}, `--sample "NaN" is not a part`},
		{[]string{"--rate", "fast"}, `--rate "fast" is not a number of bytes above 0, such as 10MiB`},
		{[]string{"--topic", "a,,b"}, "--topic has an empty name"},
		{[]string{"--flow", "x"}, `unknown flow "x"`},
		{[]string{"--state", state}, "with another list of topics: finish that one, or keep this one elsewhere"},
	} {
		code, stdout, stderr := milena(t, append([]string{"verify", "-c", path}, c.args...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%q: exit %d\n%s\n%s\nwant %s", c.args, code, stdout, stderr, c.want)
		}
	}
}

func TestParsePart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"1%": 0.01, "100%": 1, "0.25": 0.25, "1": 1, "0.5 %": 0.005} {
		if got, err := parsePart(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "-1%", "101%", "2", "Inf", "1%%"} {
		if got, err := parsePart(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	if got := progressLine(verify.Progress{}, verify.Progress{}, time.Second); got != "reading the journal and the topics of both clusters" {
		t.Errorf("%q", got)
	}
	got := progressLine(verify.Progress{Offsets: 200, Total: 1000, Bytes: 5e6}, verify.Progress{Offsets: 500, Total: 1000, Bytes: 65e6, Differing: 2}, 30*time.Second)
	if want := "[###############...............]  50%  2.0 MB/s  50s left  2 differing records"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
