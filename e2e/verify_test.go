package e2e_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
	"github.com/milena-kafka/milena/e2e/verify"
)

// verification is the JSON that milena verify prints.
type verification struct {
	Result     string              `json:"result"`
	Records    int64               `json:"records"`
	ByBytes    int64               `json:"records_by_bytes"`
	Aborted    int64               `json:"aborted"`
	Bytes      int64               `json:"bytes"`
	Seconds    float64             `json:"seconds"`
	Partitions []verifiedPartition `json:"partitions"`

	stderr string
}

type verifiedPartition struct {
	Topic           string `json:"topic"`
	Partition       int32  `json:"partition"`
	Result          string `json:"result"`
	Records         int64  `json:"records"`
	Differing       int64  `json:"records_differing"`
	CleanedOnSource int64  `json:"cleaned_on_source"`
	CleanedOnTarget int64  `json:"cleaned_on_target"`
	NotVerified     string `json:"not_verified_because"`
	Verified        *struct {
		SourceTo int64 `json:"source_to"`
	} `json:"verified"`
	Differences []struct {
		What         string `json:"what"`
		SourceOffset *int64 `json:"source_offset"`
		TargetOffset *int64 `json:"target_offset"`
		Records      int64  `json:"records"`
		Detail       string `json:"detail"`
	} `json:"differences"`
}

// milenaVerify runs milena verify and returns its exit code and what it found.
func (p *pair) milenaVerify(d *daemon.Daemon, args ...string) (int, verification) {
	p.t.Helper()
	cmd := exec.CommandContext(within(p.t, 3*time.Minute, "milena verify ends"), d.Binary(), append([]string{"verify", "-c", d.Config(), "--output", "json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	var v verification
	if err := json.Unmarshal(out, &v); err != nil {
		p.t.Fatalf("%v\n%s\n%s", err, out, &stderr)
	}
	v.stderr = stderr.String()
	return cmd.ProcessState.ExitCode(), v
}

// While milena copies under load, is killed and is replaced, milena verify finds no difference. It finds what is changed in the log files of the target,
// at its offset, and nothing else. Killed itself, it goes on where it was.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := startPair(t, kafka.Options{}, kafka.Options{})
	ctx := t.Context()
	topics := []string{"plain", "transactions", "compacted", "cleaned", "flipped", "forged", "hidden"}
	compact(t, p, "compacted")
	p.createCleaned()
	p.createTopic("plain", 4, 1)
	p.createTopic("transactions", 2, 1)
	keyed := load.Keyed("some key", load.Sized(300))
	for _, topic := range []string{"flipped", "forged", "hidden"} {
		p.createTopic(topic, 1, 1)
		codec := load.Codec("none")
		if topic == "flipped" {
			codec = "lz4"
		}
		w := p.writer(load.Options{Topic: topic, Partitions: 1, Codec: codec, BatchBytes: 8 << 10, Shapes: []load.Shape{keyed}})
		check(t, w.Write(ctx, 2000))
	}
	m := p.startMilena(p.config(topics...))
	s := p.writer(load.Options{Topic: "plain", Partitions: 4, Shapes: []load.Shape{load.Sized(1000), load.Headers, load.NullKey, load.Tombstone}}).Stream(ctx, 3000)
	transactions := make(chan error, 1)
	go func() {
		_, err := load.Transactions(ctx, p.source, load.Options{Topic: "transactions", Partitions: 2}, 200, 15)
		transactions <- err
	}()
	p.verifyUnderLoad(m)
	check(t, <-transactions)
	check(t, load.AwaitMarkers(within(t, 30*time.Second, "the transactions have their markers"), p.sourceAdmin, "transactions"))
	_, err := s.Stop(ctx)
	check(t, err)
	ends := p.waitCopied(m, time.Minute, topics...)
	m.stop() // which journals everything

	code, v := p.milenaVerify(m.Daemon)
	if code != 0 || v.Result != "equal" || v.Aborted == 0 {
		t.Fatalf("exit code %d, %+v", code, v)
	}
	equal := p.verify(remoteTopic, topics...)
	if records := v.without("heartbeats"); records != equal {
		t.Errorf("milena verify found %d equal records, a comparison of all records %d", records, equal)
	}
	for _, part := range v.Partitions {
		if part.Topic != "heartbeats" && part.Verified.SourceTo != ends[part.Topic].End[part.Partition] {
			t.Errorf("verified up to the end of the source: %+v, want %d", part, ends[part.Topic].End[part.Partition])
		}
	}
	t.Logf("%d records, %d by bytes, %.1f MB in %.2f s", v.Records, v.ByBytes, float64(v.Bytes)/1e6, v.Seconds)
	p.verifyGoesOn(m, v)
	p.verifyCleaned(m)
	p.plantFaults()
	p.wantPlantedFaults(m)
	p.verifyInBackground(topics...)
}

// verifyInBackground lets a flow verify its copies, which have the planted faults. It says so, copies on, and says so again after kill -9.
func (p *pair) verifyInBackground(topics ...string) {
	p.t.Helper()
	config := p.config(topics...)
	config["flows"].([]daemon.Map)[0]["verify"] = daemon.Map{"rate": "100MiB"}
	m := p.newMilena("verifying", config)
	for _, start := range []string{"the first start", "after kill -9"} {
		m.start()
		m.waitMetric(time.Minute, 3, "milena_differing_partitions")
		check(p.t, p.writer(load.Options{Topic: "plain", Partitions: 4}).Write(p.t.Context(), 100))
		ends := p.waitCopied(m, time.Minute, "plain")
		for partition, end := range ends["plain"].End {
			m.waitMetric(2*time.Minute, float64(end), "milena_verified_offset", "topic", "plain", "partition", fmt.Sprint(partition))
		}
		out, err := exec.CommandContext(p.t.Context(), m.Binary(), "status", "-c", m.Config()).CombinedOutput()
		if exit := new(exec.ExitError); !errors.As(err, &exit) {
			p.t.Errorf("%s: status -c of copies that differ: %v", start, err)
		}
		for _, text := range []string{"the copy differs from the source", ": value: the value is 300 bytes", "equal up to", "missing_on_target", "damaged_on_target"} {
			if !strings.Contains(string(out), text) {
				p.t.Errorf("%s: no %q in\n%s", start, text, out)
			}
		}
		m.Kill()
	}
}

// without sums up the records of all topics but one.
func (v verification) without(topic string) (records int64) {
	for _, p := range v.Partitions {
		if p.Topic != topic {
			records += p.Records
		}
	}
	return records
}

// verifyUnderLoad verifies several times while milena copies, also right after it was killed.
func (p *pair) verifyUnderLoad(m *milena) {
	p.t.Helper()
	last := int64(0)
	for i := range 6 {
		m.waitMetric(time.Minute, float64(2000*(i%2+1)), "milena_records_total")
		if i%2 == 1 {
			m.Kill()
			m.start()
		}
		code, v := p.milenaVerify(m.Daemon)
		if code == 1 || v.Result == "different" || v.Records < last {
			p.t.Fatalf("run %d: exit code %d, %d records after %d: %+v", i, code, v.Records, last, v)
		}
		for _, part := range v.Partitions {
			if part.NotVerified != "" {
				p.t.Logf("run %d: %s-%d: %s", i, part.Topic, part.Partition, part.NotVerified)
			}
		}
		last = v.Records
	}
	p.t.Logf("%d records are equal in the last run under load", last)
	m.waitReady(30 * time.Second)
}

// verifyGoesOn kills throttled verifications once they have kept some progress, in a file and in the control topic. The next one goes on, says so, and has
// the sums of one run.
func (p *pair) verifyGoesOn(m *milena, whole verification) {
	p.t.Helper()
	state := filepath.Join(p.dir, "verify.state")
	control := "milena.source-target.control"
	before := p.endOf(control)
	inFile := func() (bool, string) {
		kept, err := os.ReadFile(state)
		return err == nil && bytes.Contains(kept, []byte(`"records_by_bytes"`)), fmt.Sprint(err)
	}
	inTopic := func() (bool, string) {
		end := p.endOf(control)
		return end > before, fmt.Sprintf("%d records", end-before)
	}
	var want int64
	for _, part := range whole.Partitions {
		if part.Topic == "plain" {
			want += part.Records
		}
	}
	for _, one := range []struct {
		name string
		args []string
		kept func() (bool, string)
	}{{state, []string{"--topic", "plain", "--state", state}, inFile}, {control, []string{"--topic", "plain"}, inTopic}} {
		argv := append([]string{m.Binary(), "verify", "-c", m.Config(), "--rate", "100KiB"}, one.args...)
		killed, err := proc.Start(p.t.Context(), "verify", filepath.Join(p.dir, "verify.log"), argv)
		check(p.t, err)
		eventually(p.t, time.Minute, "some progress is kept in "+one.name, func() (bool, string) {
			ok, state := one.kept()
			return ok && killed.Running(), state + killed.Output()
		})
		killed.Kill()
		code, v := p.milenaVerify(m.Daemon, one.args...)
		if says := "goes on from the progress in "; code != 0 || v.Records != want || !strings.Contains(v.stderr, says) || !strings.Contains(v.stderr, one.name) {
			p.t.Errorf("exit code %d, %d records, want %d:\n%s", code, v.Records, want, v.stderr)
		}
		p.t.Logf("%s", v.stderr)
		if code, v := p.milenaVerify(m.Daemon, one.args...); code != 0 || v.Records != want || v.stderr != "" {
			p.t.Errorf("the progress of a complete run is kept: exit code %d, %d records\n%s", code, v.Records, v.stderr)
		}
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("the progress of a complete run is kept: %v", err)
	}
}

// endOf is the end of partition 0 of a topic of the target.
func (p *pair) endOf(topic string) int64 {
	p.t.Helper()
	listed, err := p.targetAdmin.ListEndOffsets(p.t.Context(), topic)
	check(p.t, err)
	end, _ := listed.Lookup(topic, 0)
	return end.Offset
}

// createCleaned creates a compacted topic that its log cleaner leaves alone, with many records of few keys.
func (p *pair) createCleaned() {
	p.t.Helper()
	p.createTopic("cleaned", 1, 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.01", "min.compaction.lag.ms=86400000", "delete.retention.ms=0")
	shapes := make([]load.Shape, 53)
	for i := range shapes {
		shapes[i] = load.Keyed(fmt.Sprintf("key-%d", i), load.Sized(1<<10))
		if i%10 == 9 {
			shapes[i] = load.Keyed(fmt.Sprintf("key-%d", i), load.Tombstone)
		}
	}
	w := p.writer(load.Options{Topic: "cleaned", Partitions: 1, Shapes: shapes})
	check(p.t, w.Write(p.t.Context(), 5000))
}

// verifyCleaned lets the log cleaner of the target work, then that of the source too: what one of them has removed and the other not yet is no difference.
func (p *pair) verifyCleaned(m *milena) {
	p.t.Helper()
	now := "0"
	for _, one := range []struct {
		admin  *kadm.Client
		client *kgo.Client
		topic  string
	}{{p.targetAdmin, p.targetClient, remoteTopic("cleaned")}, {p.sourceAdmin, p.sourceClient, "cleaned"}} {
		altered, err := one.admin.AlterTopicConfigs(p.t.Context(), []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &now}}, one.topic)
		check(p.t, err)
		_, err = altered.On(one.topic, nil)
		check(p.t, err)
		eventually(p.t, time.Minute, "the cleaner of "+one.topic+" has run", func() (bool, string) {
			c, err := verify.Contents(p.t.Context(), one.client, one.topic)
			return err == nil && c[0].Records < 4000, fmt.Sprint(c, err)
		})
		code, v := p.milenaVerify(m.Daemon, "--topic", "cleaned")
		if code != 0 || len(v.Partitions) != 1 {
			p.t.Fatalf("exit code %d, %+v", code, v)
		}
		part := v.Partitions[0]
		p.t.Logf("%s is cleaned: %d records are equal, %d cleaned on the source only, %d on the target only", one.topic, part.Records, part.CleanedOnSource, part.CleanedOnTarget)
		if one.admin == p.targetAdmin && part.CleanedOnTarget == 0 {
			p.t.Errorf("nothing was cleaned: %+v", part)
		}
	}
}

// plantFaults changes log files of the target while its broker is stopped.
func (p *pair) plantFaults() {
	p.t.Helper()
	broker := p.target.Broker(1)
	check(p.t, broker.Stop(within(p.t, time.Minute, "the broker stops")))
	for topic, change := range map[string]func(batch []byte){
		"flipped": func(batch []byte) { batch[len(batch)-9] ^= 4 },
		"forged":  func(batch []byte) { batch[len(batch)-9] ^= 4; seal(batch) }, // in the value of the last record
		"hidden":  func(batch []byte) { batch[22] |= 0x20; seal(batch) },        // consumers take it for a marker
	} {
		file := filepath.Join(broker.DataDir(), remoteTopic(topic)+"-0", fmt.Sprintf("%020d.log", 0))
		data, err := os.ReadFile(file)
		check(p.t, err)
		batches := batchesOf(data)
		change(batches[len(batches)/2])
		check(p.t, os.WriteFile(file, data, 0o644))
	}
	check(p.t, broker.Restart(within(p.t, time.Minute, "the broker starts")))
	check(p.t, p.target.WaitBrokers(within(p.t, time.Minute, "the broker is back"), 1))
}

// batchesOf splits a log file. The batches are parts of it, and those of records only.
func batchesOf(data []byte) (batches [][]byte) {
	for len(data) > 12 {
		n := 12 + int(binary.BigEndian.Uint32(data[8:]))
		if data[22]&0x20 == 0 {
			batches = append(batches, data[:n:n])
		}
		data = data[n:]
	}
	return batches
}

// seal sets the checksum of a batch to that of its bytes.
func seal(batch []byte) {
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
}

func (p *pair) wantPlantedFaults(m *milena) {
	p.t.Helper()
	code, v := p.milenaVerify(m.Daemon)
	if code != 1 || v.Result != "different" {
		p.t.Fatalf("exit code %d, %+v", code, v)
	}
	want := map[string]string{"flipped": "damaged_on_target", "forged": "value", "hidden": "missing_on_target"}
	for _, part := range v.Partitions {
		what := want[part.Topic]
		if what == "" {
			if part.Result != "equal" {
				p.t.Errorf("%s-%d: %+v", part.Topic, part.Partition, part)
			}
			continue
		}
		if part.Result != "different" || len(part.Differences) != 1 || part.Differences[0].What != what {
			p.t.Errorf("want one difference, %s: %+v", what, part)
			continue
		}
		d := part.Differences[0]
		if part.Records+part.Differing != 2000 || d.Records != part.Differing || d.SourceOffset == nil || d.TargetOffset == nil {
			p.t.Errorf("%+v", part)
		}
		p.t.Logf("%s: %d records from source offset %d, target offset %d: %s: %s", part.Topic, d.Records, *d.SourceOffset, *d.TargetOffset, d.What, d.Detail)
	}
}
