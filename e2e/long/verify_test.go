package long_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proc"
)

const (
	proofTopic      = "orders"
	proofPartitions = 8
	proofRecord     = 1 << 10 // bytes of a value
	// The least speed that is not a defect of this test's machine, in bytes of values per second.
	leastProofSpeed = 60e6
)

// proof is a large topic and its copy.
type proof struct {
	t              *testing.T
	dir            string
	bytes          int64 // of values
	source, target *kafka.Cluster
	milena         *daemon.Daemon
}

// proven is what milena verify prints.
type proven struct {
	Result     string  `json:"result"`
	Records    int64   `json:"records"`
	ByBytes    int64   `json:"records_by_bytes"`
	Differing  int64   `json:"records_differing"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	Partitions []struct {
		Partition   int    `json:"partition"`
		Result      string `json:"result"`
		NotVerified string `json:"not_verified_because"`
		Differences []difference
	} `json:"partitions"`
}

type difference struct {
	What         string `json:"what"`
	SourceOffset *int64 `json:"source_offset"`
	TargetOffset *int64 `json:"target_offset"`
	Records      int64  `json:"records"`
}

func (d difference) String() string {
	show := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s: %d from source offset %s, target offset %s", d.What, d.Records, show(d.SourceOffset), show(d.TargetOffset))
}

// milena verify of 10 GB of records that were passed through as lz4 batches: how fast it is, that it is killed and goes on, that it stays below its
// throttle, and that it finds each fault that is planted in the copy, at its exact offset. MILENA_GIGABYTES is the size.
func TestVerifyTenGigabytes(t *testing.T) {
	p := newProof(t, number(t, "MILENA_GIGABYTES", 10)*1e9)
	p.copyAll()
	whole := p.run()
	if whole.Result != "equal" || whole.Records != p.records() || whole.ByBytes < whole.Records*9/10 {
		t.Fatalf("%+v", whole)
	}
	speed := float64(p.bytes) / whole.Seconds
	t.Logf("%d records, %d by bytes: %.0f MB/s of records, %.0f MB/s of batches, in %.1f s", whole.Records, whole.ByBytes, speed/1e6, float64(whole.Bytes)/1e6/whole.Seconds, whole.Seconds)
	if speed < leastProofSpeed {
		t.Errorf("%.0f MB/s", speed/1e6)
	}
	p.killHalfWay(whole)
	p.throttled()
	p.wantFaults(p.plant())
}

func newProof(t *testing.T, size int64) *proof {
	t.Helper()
	jars := requireLong(t)
	p := &proof{t: t, dir: t.TempDir(), bytes: size / (proofRecord * proofPartitions) * (proofRecord * proofPartitions)}
	bin, err := daemon.Build(t.Context(), p.dir)
	must(t, err)
	clusters, err := kafka.StartAll(t.Context(), jars, kafka.Options{Name: "source", Dir: p.dir}, kafka.Options{Name: "target", Dir: p.dir})
	must(t, err)
	p.source, p.target = clusters[0], clusters[1]
	must(t, p.source.Admin(func(admin *kadm.Client) error {
		return kafka.CreateTopic(t.Context(), admin, proofTopic, proofPartitions, 1)
	}))
	p.milena, err = daemon.New(t.Context(), bin, filepath.Join(p.dir, "run"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": p.source.Addrs()}, "target": daemon.Map{"brokers": p.target.Addrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{proofTopic}, "heartbeats": false}},
	})
	must(t, err)
	return p
}

func (p *proof) records() int64 { return p.bytes / proofRecord }

// fill writes the records, as fast as possible. Each has a value that is not that of its neighbours, and a header.
func (p *proof) fill(ctx context.Context) error {
	client, err := p.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(256<<10), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(100_000), kgo.MaxBufferedBytes(128<<20), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return err
	}
	defer client.Close()
	random := rand.New(rand.NewPCG(1, 2))
	pool := make([][]byte, 16<<10) // larger than the window of a compressor
	for i := range pool {
		pool[i] = append(load.Payload(random, "", proofRecord/2), bytes.Repeat([]byte("compresses well "), proofRecord/2/16)...)
	}
	var failed atomic.Pointer[error]
	const inARow = 240 // of a partition, so that batches are full
	for left, next := p.records(), 0; left > 0 && ctx.Err() == nil; {
		for partition := range int32(proofPartitions) {
			for range min(left, inARow) {
				r := &kgo.Record{Topic: proofTopic, Partition: partition, Value: pool[next%len(pool)], Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("0123456789")}}}
				next++
				left--
				client.Produce(ctx, r, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				})
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// copyAll writes the records while milena copies them, and restarts milena in between, so that the copies have a marker between records.
func (p *proof) copyAll() {
	p.t.Helper()
	began := time.Now()
	must(p.t, p.milena.Start(p.t.Context()))
	must(p.t, p.milena.WaitReady(p.t.Context()))
	filled := make(chan error, 1)
	go func() { filled <- p.fill(p.t.Context()) }()
	p.until("a third is copied", func() (bool, string) {
		n := p.copied()
		return n > p.records()/3, fmt.Sprint(n)
	})
	p.milena.Kill()
	must(p.t, p.milena.Start(p.t.Context()))
	must(p.t, <-filled)
	p.until("everything is copied", func() (bool, string) {
		n := p.copied()
		return n >= p.records(), fmt.Sprint(n)
	})
	if _, err := p.milena.Stop(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("wrote and copied %.1f GB of records in %.0f s", float64(p.bytes)/1e9, time.Since(began).Seconds())
}

// until waits for an event, for a quarter of an hour at most.
func (p *proof) until(what string, done func() (bool, string)) {
	p.t.Helper()
	ctx, cancel := context.WithTimeoutCause(p.t.Context(), 15*time.Minute, errors.New(what))
	defer cancel()
	for {
		ok, state := done()
		if ok {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatalf("not within a quarter of an hour: %v; last state: %s", context.Cause(ctx), state)
		}
		pause(p.t, 50*time.Millisecond)
	}
}

// copied returns how many offsets the copies have.
func (p *proof) copied() (sum int64) {
	p.t.Helper()
	must(p.t, p.target.Admin(func(admin *kadm.Client) error {
		listed, err := admin.ListEndOffsets(p.t.Context(), "source."+proofTopic)
		listed.Each(func(o kadm.ListedOffset) { sum += max(0, o.Offset) })
		return err
	}))
	return sum
}

// start starts milena verify.
func (p *proof) start(args ...string) *proc.Process {
	p.t.Helper()
	log := filepath.Join(p.t.TempDir(), "verify.log")
	run, err := proc.Start(p.t.Context(), "verify", log, append([]string{p.milena.Binary(), "verify", "-c", p.milena.Config()}, args...))
	must(p.t, err)
	p.t.Cleanup(run.Kill)
	return run
}

// run runs milena verify with the default settings, from the beginning.
func (p *proof) run() (v proven) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.milena.Binary(), "verify", "-c", p.milena.Config(), "--restart", "--output", "json")
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
	return v
}

// readBy is how many bytes a process has read, from connections and files.
func readBy(run *proc.Process) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", run.Pid()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "rchar: ")
	number, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(number, 10, 64)
}

// killHalfWay kills a run once half of what both logs have was read. The next one goes on, and both together read not much more than one.
func (p *proof) killHalfWay(whole proven) {
	p.t.Helper()
	killed := p.start()
	first := int64(0)
	p.until("half is read", func() (bool, string) {
		n, err := readBy(killed)
		if err == nil {
			first = n
		}
		return first >= whole.Bytes || !killed.Running(), fmt.Sprint(n, err) // of both sides
	})
	killed.Kill()
	second, last := p.start(), int64(0)
	for second.Running() {
		if n, err := readBy(second); err == nil {
			last = max(last, n)
		}
		pause(p.t, 5*time.Millisecond)
	}
	code, err := second.Wait(p.t.Context())
	must(p.t, err)
	p.t.Logf("killed after %.2f GB, the next one read %.2f GB, together %.2f of what both logs have:\n%s", float64(first)/1e9, float64(last)/1e9, float64(first+last)/float64(2*whole.Bytes), second.Tail(30))
	if code != 0 || !strings.Contains(second.Output(), "goes on from the progress in topic milena.source-target.control") || !strings.Contains(second.Output(), fmt.Sprintf("%d records equal", p.records())) {
		p.t.Errorf("exit code %d:\n%s", code, second.Output())
	}
	if limit := 2 * whole.Bytes * 3 / 2; first+last > limit {
		p.t.Errorf("both runs read %d bytes, more than %d", first+last, limit)
	}
}

// throttled measures what a throttled run reads of both clusters, behind its first reads.
func (p *proof) throttled() {
	p.t.Helper()
	const rate = 20 << 20
	run := p.start("--rate", "20MiB", "--restart")
	read := func() int64 {
		n, err := readBy(run)
		must(p.t, err)
		return n
	}
	p.until("the first reads are over", func() (bool, string) {
		n := read()
		return n > 4*rate, fmt.Sprint(n)
	})
	from, began := read(), time.Now()
	p.until("more is read", func() (bool, string) {
		n := read()
		return n-from > 20*rate, fmt.Sprint(n)
	})
	speed := float64(read()-from) / time.Since(began).Seconds() / 2
	run.Kill()
	p.t.Logf("with --rate 20MiB it reads %.2f MiB/s from each cluster", speed/(1<<20))
	if speed > rate*1.05 {
		p.t.Errorf("%.0f bytes/s, more than %d", speed, rate)
	}
}

// plant changes the copy while its broker is down, and returns the first difference of each partition.
func (p *proof) plant() map[int]difference {
	p.t.Helper()
	broker := p.target.Broker(1)
	must(p.t, broker.Stop(p.t.Context()))
	want := make(map[int]difference)
	plant := func(partition int, part float64, what string, records int64, change func(l *logFile, index int) (into int64)) {
		l := readLog(p.t, filepath.Join(broker.DataDir(), fmt.Sprintf("source.%s-%d", proofTopic, partition)))
		index, source := l.dataBatch(part)
		target := baseOffset(l.batches[index])
		into := change(l, index)
		source, target = source+into, target+into
		want[partition] = difference{What: what, SourceOffset: &source, TargetOffset: &target, Records: records}
		l.write()
	}
	edit := func(edit func(list []kmsg.Record) (after []kmsg.Record, into int64)) func(*logFile, int) int64 {
		return func(l *logFile, index int) int64 {
			list, into := edit(l.recordsOf(l.batches[index]))
			l.replace(index, list)
			return into
		}
	}
	plant(0, 0.7, "value", 1, edit(func(list []kmsg.Record) ([]kmsg.Record, int64) { // flipped
		into := len(list) / 2
		list[into].Value[17] ^= 4
		return list, int64(into)
	}))
	plant(1, 0.3, "missing_on_target", 1, edit(func(list []kmsg.Record) ([]kmsg.Record, int64) {
		into := len(list) / 3
		return append(list[:into], list[into+1:]...), int64(into)
	}))
	plant(2, 0.9, "value", 2, edit(func(list []kmsg.Record) ([]kmsg.Record, int64) { // swapped
		into := 1
		a, b := &list[into], &list[into+1]
		a.Value, b.Value = b.Value, a.Value
		return list, int64(into)
	}))
	plant(3, 0.1, "headers", 1, edit(func(list []kmsg.Record) ([]kmsg.Record, int64) {
		into := len(list) - 1
		list[into].Headers[0].Value[3] = 'x'
		return list, int64(into)
	}))
	l := readLog(p.t, filepath.Join(broker.DataDir(), fmt.Sprintf("source.%s-%d", proofTopic, 4)))
	index := l.markerIndex()
	extra := baseOffset(l.batches[index])
	l.replaceMarker(index)
	l.write()
	want[4] = difference{What: "extra_on_target", TargetOffset: &extra, Records: 1}
	l = readLog(p.t, filepath.Join(broker.DataDir(), fmt.Sprintf("source.%s-%d", proofTopic, 5))) // flipped, with a checksum that is not repaired
	index, source := l.dataBatch(0.5)
	batch := l.batches[index]
	batch[len(batch)-9] ^= 4
	target := baseOffset(batch)
	l.writeInPlace()
	want[5] = difference{What: "damaged_on_target", SourceOffset: &source, TargetOffset: &target, Records: countOf(batch)}
	must(p.t, broker.Restart(p.t.Context()))
	must(p.t, p.target.WaitBrokers(p.t.Context(), 1))
	return want
}

// wantFaults verifies, and finds what was planted and nothing else.
func (p *proof) wantFaults(want map[int]difference) {
	p.t.Helper()
	v := p.run()
	if v.Result != "different" || len(v.Partitions) != proofPartitions {
		p.t.Fatalf("%+v", v)
	}
	for _, part := range v.Partitions {
		planted, ok := want[part.Partition]
		switch {
		case !ok && part.Result == "equal":
		case !ok || len(part.Differences) != 1 || part.NotVerified != "":
			p.t.Errorf("partition %d: %v, want %v: %+v", part.Partition, part.Differences, planted, part)
		case part.Differences[0].String() != planted.String():
			p.t.Errorf("partition %d: %v, want %v", part.Partition, part.Differences[0], planted)
		default:
			p.t.Logf("partition %d: %v", part.Partition, planted)
		}
	}
	p.t.Logf("with the faults: %.0f MB/s of records", float64(p.bytes)/1e6/v.Seconds)
}
