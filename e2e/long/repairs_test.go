package long_test

import (
	"context"
	"crypto/rand"
	"errors"
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
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/verify"
)

// repair is a topic that an anomaly halts, and how a person repairs it.
type repair struct {
	topic, kind string
	partition   int32
	configs     []string
	// plant brings the anomaly about, in a topic that has 10 records which are copied.
	plant func(*repairs, *repair)
	// cure is the beginnings of the commands, in the order in which they are run. The hint of the status has the rest of each.
	cure []string
	// want is what the copy holds in the end, of what the source held before and after, and what was on the target and on neither.
	want func(x *repairs, r *repair) []string
	// leftOut is what the ledger names as left out: the source offsets [from, to). None if both are 0.
	leftOut [2]int64

	before  []string // values of the source when the first 10 records were copied
	foreign []string // values that the test wrote to the copy
	stood   []string // values that the copy held when the partition halted
}

const (
	skipIt    = "milena skip "
	retryIt   = "milena retry "
	copyAgain = "milena restart-copy "
	discard   = "kafka-topics.sh "
	configure = "kafka-configs.sh "
)

// everything is what the source holds.
func everything(x *repairs, r *repair) []string { return x.values(x.source, r.topic, r.partition) }

// behindTheOld is what was copied of an earlier log, and then everything that the source holds.
func behindTheOld(x *repairs, r *repair) []string {
	return append(slices.Clone(r.stood), everything(x, r)...)
}

// without is everything that the source held, but for a range of offsets.
func without(from, to int) func(*repairs, *repair) []string {
	return func(x *repairs, r *repair) []string {
		all := everything(x, r)
		return append(all[:from:from], all[to:]...)
	}
}

// theRepairs are one or two for each anomaly kind that halts a partition.
func theRepairs() []*repair {
	compacted := []string{"cleanup.policy=compact", "delete.retention.ms=1000", "min.cleanable.dirty.ratio=0.001", "segment.ms=500"}
	return []*repair{
		{topic: "recreated-append", kind: "recreated", plant: (*repairs).recreate, cure: []string{copyAgain}, want: behindTheOld},
		{topic: "recreated-skip", kind: "recreated", plant: (*repairs).recreate, cure: []string{skipIt}, want: func(x *repairs, r *repair) []string {
			return append(slices.Clone(r.stood), everything(x, r)[20:]...)
		}},
		{topic: "recreated-discard", kind: "recreated", plant: (*repairs).recreate, cure: []string{discard, copyAgain}, want: everything},
		{topic: "gap", kind: "retention_gap", plant: (*repairs).overtake, cure: []string{skipIt}, leftOut: [2]int64{10, 15}, want: func(x *repairs, r *repair) []string {
			return append(slices.Clone(r.before), everything(x, r)...)
		}},
		{topic: "foreign", kind: "foreign_write", plant: (*repairs).writeForeign, cure: []string{skipIt}, want: func(x *repairs, r *repair) []string {
			return append(slices.Clone(r.stood), everything(x, r)[len(r.stood)-len(r.foreign):]...)
		}},
		{topic: "target-recreated", kind: "target_recreated", plant: (*repairs).deleteCopy, cure: []string{copyAgain}, want: everything},
		{topic: "shrunk", kind: "shrunk", partition: 1, plant: (*repairs).shrink, cure: []string{skipIt}, want: func(_ *repairs, r *repair) []string { return r.before }},
		{topic: "too-large-copy", kind: "record_too_large", plant: (*repairs).writeLarge, cure: []string{configure, retryIt}, want: everything},
		{topic: "too-large-skip", kind: "record_too_large", plant: (*repairs).writeLarge, cure: []string{skipIt}, leftOut: [2]int64{11, 12}, want: without(11, 12)},
		{topic: "refused-copy", kind: "record_refused", plant: (*repairs).writeOld, cure: []string{configure, retryIt}, want: everything},
		{topic: "refused-skip", kind: "record_refused", plant: (*repairs).writeOld, cure: []string{skipIt}, leftOut: [2]int64{11, 12}, want: without(11, 12)},
		{topic: "not-empty-discard", kind: "target_not_empty", plant: (*repairs).occupy, cure: []string{discard, retryIt}, want: everything},
		{topic: "not-empty-append", kind: "target_not_empty", plant: (*repairs).occupy, cure: []string{skipIt}, want: func(x *repairs, r *repair) []string {
			return append(slices.Clone(r.foreign), everything(x, r)...)
		}},
		{topic: "tombstones-skip", kind: "tombstones_cleaned", configs: compacted, plant: (*repairs).cleanTombstone, cure: []string{skipIt}, want: nil},
		{topic: "tombstones-discard", kind: "tombstones_cleaned", configs: compacted, plant: (*repairs).cleanTombstone, cure: []string{discard, copyAgain}, want: nil},
		{topic: "unmatched-skip", kind: "unmatched", configs: []string{"retention.ms=-1"}, plant: nil, cure: []string{skipIt}, leftOut: [2]int64{11, 12}, want: without(11, 12)},
		{topic: "unmatched-discard", kind: "unmatched", configs: []string{"retention.ms=-1"}, plant: nil, cure: []string{discard, copyAgain}, want: everything},
		{topic: "truncated", kind: "truncated", plant: nil, cure: []string{skipIt}, want: func(x *repairs, r *repair) []string {
			return append(slices.Clone(r.stood), everything(x, r)[10:]...)
		}},
		{topic: "truncated-discard", kind: "truncated", plant: nil, cure: []string{discard, copyAgain}, want: everything},
	}
}

// Each anomaly kind halts a topic on real brokers. The status of the flow names the topic, the partition, the kind, the cause and the commands. Those
// commands, as they are printed, let the topic be in step again. Milena runs from the first anomaly to the last repair: its process is never restarted.
func TestRepairsByTheStatusOnly(t *testing.T) {
	x := startRepairs(t)
	x.refuseAndForget("unmatched-skip", "unmatched-discard")
	for _, r := range x.all {
		if r.plant != nil {
			t.Logf("planting %s", r.topic)
			r.plant(x, r)
		}
	}
	x.truncate("truncated", "truncated-discard")
	var table strings.Builder
	for _, r := range x.all {
		t.Run(r.topic, func(t *testing.T) {
			x := *x
			x.t = t
			reason := x.untilHalted(r)
			r.stood = x.values(x.target, "source."+r.topic, r.partition)
			commands := x.commands(r, reason)
			for _, command := range commands {
				x.run(command)
			}
			x.checkRepaired(r)
			fmt.Fprintf(&table, "%s: %d\n  %s\n", r.topic, len(commands), strings.Join(commands, "\n  "))
		})
	}
	t.Logf("commands:\n%s", table.String())
	if !x.milena.Process().Running() || strings.Count(x.milena.Output(), "msg=copying ") != 1 {
		t.Error("milena was restarted")
	}
}

// repairs is a flow between two clusters, from a source with unclean elections to a target that forgets producers of old records at once.
type repairs struct {
	t                  *testing.T
	clusters           []*kafka.Cluster
	source, target     *kgo.Client
	onSource, onTarget *kadm.Client
	milena             *daemon.Daemon
	all                []*repair
}

const (
	stale  = 1 // the source broker that has all topics, and leads after an unclean election
	leader = 2
)

func startRepairs(t *testing.T) *repairs {
	t.Helper()
	jars := requireLong(t)
	dir := t.TempDir()
	if keep := os.Getenv("MILENA_E2E_KEEP"); keep != "" {
		dir = filepath.Join(keep, t.Name())
		must(t, os.RemoveAll(dir))
		must(t, os.MkdirAll(dir, 0o755))
	}
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	x := &repairs{t: t, all: theRepairs()}
	x.clusters, err = kafka.StartAll(t.Context(), jars,
		kafka.Options{Name: "source", Dir: dir, Brokers: 2, Properties: map[string]string{
			"unclean.leader.election.enable": "true", "unclean.leader.election.interval.ms": "500", "message.max.bytes": "8000000",
		}},
		kafka.Options{Name: "target", Dir: dir, Proxied: true, Properties: map[string]string{"producer.id.expiration.check.interval.ms": "50"}})
	must(t, err)
	x.source, err = x.clusters[0].Client(kgo.ProducerBatchMaxBytes(7_000_000), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.UnknownTopicRetries(-1))
	must(t, err)
	t.Cleanup(x.source.Close)
	x.target, err = x.clusters[1].Client()
	must(t, err)
	t.Cleanup(x.target.Close)
	x.onSource, x.onTarget = kadm.NewClient(x.source), kadm.NewClient(x.target)
	x.milena, err = daemon.New(t.Context(), bin, filepath.Join(dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": x.clusters[0].Addrs()}, "target": daemon.Map{"brokers": x.clusters[1].ProxyAddrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{".*"}}},
	})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("milena:\n%s", x.milena.Tail(80))
		}
	})
	must(t, x.milena.Start(t.Context()))
	must(t, x.milena.WaitReady(t.Context()))
	for _, r := range x.all {
		if r.kind == "target_not_empty" {
			continue
		}
		x.create(r, int(r.partition)+1)
		x.write(r, 10, x.age(r))
	}
	for _, r := range x.all {
		if r.kind != "target_not_empty" {
			x.untilCopied(r)
			r.before = everything(x, r)
		}
	}
	return x
}

// age is how old the records of a topic are.
func (x *repairs) age(r *repair) time.Duration {
	if r.kind == "unmatched" {
		return 2 * 365 * 24 * time.Hour
	}
	return 0
}

// create creates a topic on the broker that always comes back, or on both if it is to be truncated.
func (x *repairs) create(r *repair, partitions int) {
	x.t.Helper()
	replicas := []int32{stale}
	if r.kind == "truncated" {
		replicas = []int32{leader, stale}
	}
	must(x.t, kafka.AssignTopic(x.t.Context(), x.source, r.topic, slices.Repeat([][]int32{replicas}, partitions), r.configs...))
}

// write writes n records to the partition. They differ from all others of the topic.
func (x *repairs) write(r *repair, n int, age time.Duration) {
	x.t.Helper()
	for range n {
		x.produce(x.source, r.topic, r.partition, rand.Text(), age)
	}
}

// produce writes one record, as a batch of its own.
func (x *repairs) produce(to *kgo.Client, topic string, partition int32, value string, age time.Duration) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	must(x.t, to.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(value[:8]), Value: []byte(value), Timestamp: time.Now().Add(-age)}).FirstErr())
}

// values are the values of a partition that can be read, in order.
func (x *repairs) values(on *kgo.Client, topic string, partition int32) (list []string) {
	x.t.Helper()
	must(x.t, verify.Sequence(x.t.Context(), on, topic, partition, func(r *kgo.Record) error {
		list = append(list, string(r.Value))
		return nil
	}))
	return list
}

// until waits until something is so.
func (x *repairs) until(what string, done func() (bool, string)) {
	x.t.Helper()
	ctx, cancel := context.WithTimeoutCause(x.t.Context(), time.Minute, errors.New("not within a minute: "+what))
	defer cancel()
	must(x.t, x.milena.Until(ctx, 200*time.Millisecond, done))
}

// untilBrokerHas waits until a broker has done what it does when it finds the time: the whole test has a time limit, and this wait has none of its own.
func (x *repairs) untilBrokerHas(what string, done func() (bool, string)) {
	x.t.Helper()
	ctx, cancel := x.t.Context(), context.CancelFunc(func() {})
	if end, ok := x.t.Deadline(); ok {
		ctx, cancel = context.WithDeadlineCause(ctx, end.Add(-time.Minute), errors.New("not within the time limit of the test: "+what))
	}
	defer cancel()
	must(x.t, x.milena.Until(ctx, 200*time.Millisecond, done))
}

// partitionOf is that of a repair in /status.
func (x *repairs) partitionOf(r *repair) daemon.Partition {
	x.t.Helper()
	list, err := x.milena.Partitions(x.t.Context())
	if err != nil {
		return daemon.Partition{}
	}
	i := slices.IndexFunc(list, func(p daemon.Partition) bool { return p.Topic == r.topic && p.Partition == r.partition })
	if i < 0 {
		return daemon.Partition{}
	}
	return list[i]
}

// untilCopied waits until all that the source has of a partition is copied.
func (x *repairs) untilCopied(r *repair) {
	x.t.Helper()
	ends, err := verify.ReadEnds(x.t.Context(), x.source, r.topic)
	must(x.t, err)
	x.until(r.topic+" is copied", func() (bool, string) {
		p := x.partitionOf(r)
		return p.State == "replicating" && p.Acked == ends.End[r.partition], fmt.Sprintf("%+v, want %d", p, ends.End[r.partition])
	})
}

// command runs a command of milena.
func (x *repairs) command(args ...string) string {
	x.t.Helper()
	out, err := exec.CommandContext(x.t.Context(), x.milena.Binary(), append(args, "-c", x.milena.Config())...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("milena %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// untilHalted waits until the status of the flow says that a partition is halted, and returns the reason that it prints: kind, cause and hint.
func (x *repairs) untilHalted(r *repair) (reason string) {
	x.t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^ *%s +%d +halted +(%s: .*)$`, r.topic, r.partition, r.kind))
	x.until("milena status names "+r.topic, func() (bool, string) {
		out, _ := exec.CommandContext(x.t.Context(), x.milena.Binary(), "status", "-c", x.milena.Config()).CombinedOutput() // exits with 1, as there are halted partitions
		found := line.FindStringSubmatch(string(out))
		if found == nil {
			return false, fmt.Sprintf("%+v\n%s", x.partitionOf(r), out)
		}
		reason = found[1]
		return true, ""
	})
	x.t.Log(reason)
	return reason
}

var quoted = regexp.MustCompile("`([^`]+)`")

// commands are those of the cure, as the reason has them.
func (x *repairs) commands(r *repair, reason string) (list []string) {
	x.t.Helper()
	all := quoted.FindAllStringSubmatch(reason, -1)
	for _, begin := range r.cure {
		i := slices.IndexFunc(all, func(m []string) bool { return strings.HasPrefix(m[1], begin) })
		if i < 0 {
			x.t.Fatalf("the status does not say %q: %s", begin, reason)
		}
		command := all[i][1]
		if size := regexp.MustCompile(`needs a batch of (\d+) bytes`).FindStringSubmatch(reason); size != nil {
			command = strings.ReplaceAll(command, "SIZE", size[1])
		}
		list = append(list, command)
	}
	return list
}

// run runs a command as it is printed, but for the capital words, which a person fills in.
func (x *repairs) run(command string) {
	x.t.Helper()
	fill := strings.NewReplacer("FILE", x.milena.Config(), "TARGET", x.clusters[1].Addrs()[0], "TEXT", "repaired")
	words := strings.Fields(fill.Replace(command))
	classes := map[string]string{"kafka-topics.sh": "org.apache.kafka.tools.TopicCommand", "kafka-configs.sh": "kafka.admin.ConfigCommand"}
	var out []byte
	var err error
	if class, ok := classes[words[0]]; ok {
		out, err = x.clusters[1].Jars().Tool(x.t.Context(), class, words[1:]...)
	} else {
		out, err = exec.CommandContext(x.t.Context(), x.milena.Binary(), words[1:]...).CombinedOutput()
	}
	x.t.Logf("%s\n%s", command, out)
	must(x.t, err)
}

// checkRepaired checks that the partition is copied on, that its copy holds what it should, and that the ledger names what is left out.
func (x *repairs) checkRepaired(r *repair) {
	x.t.Helper()
	if r.kind == "shrunk" { // the source does not have it any more
		x.until("the status has nothing more to say about it", func() (bool, string) {
			out, _ := exec.CommandContext(x.t.Context(), x.milena.Binary(), "status", "-c", x.milena.Config()).CombinedOutput()
			return !regexp.MustCompile(`(?m)^ *shrunk +\d+ +halted +\(?shrunk`).Match(out), string(out)
		})
	} else {
		x.write(r, 5, x.age(r))
		x.untilCopied(r)
	}
	if r.kind == "tombstones_cleaned" {
		x.checkKeys(r)
	} else if want, got := r.want(x, r), x.values(x.target, "source."+r.topic, r.partition); !slices.Equal(want, got) {
		x.t.Errorf("the copy has %d records, want %d:\n%.60q\n%.60q", len(got), len(want), got, want)
	}
	if r.leftOut != [2]int64{} {
		named := slices.ContainsFunc(x.partitionOf(r).Gaps, func(g daemon.Gap) bool {
			return g.Kind == r.kind && g.Action == "skip" && [2]int64{g.From, g.To} == r.leftOut
		})
		if !named {
			x.t.Errorf("the ledger does not have %v: %+v", r.leftOut, x.partitionOf(r).Gaps)
		}
	}
}

// checkKeys compares the newest value of each key. With skip, the copy keeps the key whose tombstone was cleaned.
func (x *repairs) checkKeys(r *repair) {
	x.t.Helper()
	newest := func(on *kgo.Client, topic string) map[string]string {
		keys := map[string]string{}
		must(x.t, verify.Sequence(x.t.Context(), on, topic, 0, func(r *kgo.Record) error {
			keys[string(r.Key)] = string(r.Value)
			return nil
		}))
		return keys
	}
	want, got := newest(x.source, r.topic), newest(x.target, "source."+r.topic)
	if len(r.cure) == 1 {
		for _, value := range r.before {
			if _, ok := want[value[:8]]; !ok {
				want[value[:8]] = value
			}
		}
	}
	if !maps.Equal(want, got) {
		x.t.Errorf("the keys of the copy are %v, want %v", got, want)
	}
}
