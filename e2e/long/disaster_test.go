package long_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// disaster is a flow one of whose clusters suffers one.
type disaster struct {
	t              *testing.T
	dir            string
	source, target *kafka.Cluster
	// Clients of the test itself. They see all brokers, whatever is cut.
	sourceClient, targetClient *kgo.Client
	milena                     *daemon.Daemon
	heartbeats                 bool     // written to both clusters, and copied
	topics, streamed           []string // all, and those that are written to
	streams                    []*load.Stream
	acked                      int64 // records of streams that have ended

	began time.Time
	log   int // length of milena's log when the disaster began
	cpu   time.Duration
}

// The clusters of a disaster are small, so that eight brokers run on two cores.
func smallBrokers() []string {
	return []string{"-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
}

func newDisaster(t *testing.T, source, target kafka.Options) *disaster {
	t.Helper()
	jars := requireLong(t)
	d := &disaster{t: t, heartbeats: true, dir: os.Getenv("MILENA_E2E_KEEP")}
	if d.dir == "" {
		d.dir = t.TempDir()
	} else {
		d.dir = filepath.Join(d.dir, strings.ReplaceAll(t.Name(), "/", "_"))
		must(t, os.RemoveAll(d.dir))
		must(t, os.MkdirAll(d.dir, 0o755))
	}
	source.Name, target.Name = "source", "target"
	source.Dir, target.Dir = d.dir, d.dir
	source.JVM, target.JVM = smallBrokers(), smallBrokers()
	clusters, err := kafka.StartAll(t.Context(), jars, source, target)
	must(t, err)
	d.source, d.target = clusters[0], clusters[1]
	d.sourceClient, d.targetClient = d.client(d.source), d.client(d.target)
	return d
}

func (d *disaster) client(c *kafka.Cluster) *kgo.Client {
	d.t.Helper()
	cl, err := c.Client()
	must(d.t, err)
	d.t.Cleanup(cl.Close)
	return cl
}

// startMilena copies all topics, from and to these addresses.
func (d *disaster) startMilena(source, target []string) {
	d.t.Helper()
	bin, err := daemon.Build(d.t.Context(), d.t.TempDir())
	must(d.t, err)
	d.milena, err = daemon.New(d.t.Context(), bin, filepath.Join(d.dir, "milena"), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": source}, "target": daemon.Map{"brokers": target}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "heartbeats": d.heartbeats, "configs_exclude": []string{`min\.insync\.replicas`}}},
	})
	must(d.t, err)
	must(d.t, d.milena.Start(d.t.Context()))
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("source:\n%s\ntarget:\n%s\nmilena:\n%s", d.source.Tail(10), d.target.Tail(10), d.milena.Tail(60))
		}
	})
	must(d.t, d.milena.WaitReady(d.within(time.Minute, "milena is ready")))
}

func (d *disaster) within(limit time.Duration, what string) context.Context {
	d.t.Helper()
	ctx, cancel := context.WithTimeoutCause(d.t.Context(), limit, fmt.Errorf("not within %v: %s", limit, what))
	d.t.Cleanup(cancel)
	return ctx
}

// until waits for an event.
func (d *disaster) until(limit time.Duration, what string, done func() (bool, string)) {
	d.t.Helper()
	must(d.t, d.milena.Until(d.within(limit, what), 100*time.Millisecond, done))
}

// stream writes to a topic of the source until the end, to brokers that these options name.
func (d *disaster) stream(topic string, partitions, perSecond int, client ...kgo.Opt) {
	d.t.Helper()
	w, err := load.New(d.source, load.Options{Topic: topic, Partitions: partitions, Client: append(client, kgo.ProducerLinger(20*time.Millisecond))})
	must(d.t, err)
	d.t.Cleanup(w.Close)
	must(d.t, w.Write(d.t.Context(), 50))
	d.streams = append(d.streams, w.Stream(d.t.Context(), perSecond))
	d.topics, d.streamed = append(d.topics, topic), append(d.streamed, topic)
}

// ackedOf returns how far the partitions of a topic are copied.
func (d *disaster) ackedOf(topic string) map[int32]int64 {
	d.t.Helper()
	all, err := d.milena.Partitions(d.t.Context())
	must(d.t, err)
	acked := make(map[int32]int64)
	for _, p := range all {
		if p.Topic == topic {
			acked[p.Partition] = p.Acked
		}
	}
	return acked
}

// untilMoved waits until every partition of the topics is copied further than it is now.
func (d *disaster) untilMoved(limit time.Duration, topics ...string) {
	d.t.Helper()
	for _, topic := range topics {
		before, began := d.ackedOf(topic), time.Now()
		d.until(limit, topic+" is copied on", func() (bool, string) {
			now := d.ackedOf(topic)
			for p, at := range before {
				if now[p] <= at {
					return false, fmt.Sprintf("%v, and now %v", before, now)
				}
			}
			return len(before) > 0, "no partitions"
		})
		d.t.Logf("%s: every partition was copied further within %.1f s", topic, time.Since(began).Seconds())
	}
}

// begin notes that the disaster begins.
func (d *disaster) begin() {
	d.t.Helper()
	u, err := d.milena.Process().Usage()
	must(d.t, err)
	d.began, d.log, d.cpu = time.Now(), len(d.milena.Output()), u.CPU
}

// look lets the disaster last, prints what milena shows of it, and returns that: the status, why it is not ready, and its log since the disaster began.
func (d *disaster) look(lasts time.Duration) string {
	d.t.Helper()
	pause(d.t, lasts-time.Since(d.began))
	u, err := d.milena.Process().Usage()
	must(d.t, err)
	took := time.Since(d.began)
	out, _ := exec.CommandContext(d.t.Context(), d.milena.Binary(), "status", "-c", d.milena.Config(), "--timeout", "10s").CombinedOutput() // an exit code says that it is not well
	own, _ := exec.CommandContext(d.t.Context(), d.milena.Binary(), "status", "--url", d.milena.URL()).CombinedOutput()
	code, ready, err := d.milena.Ready(d.t.Context())
	must(d.t, err)
	warned := warnings(d.milena.Output()[d.log:])
	d.t.Logf("%.0f s after %s; CPU %.2f s\n--- milena status --url\n%s\n--- milena status -c\n%s\n--- /readyz %d\n%s\n--- log\n%s", took.Seconds(), d.began.Format(time.TimeOnly), (u.CPU - d.cpu).Seconds(), own, out, code, ready, warned)
	return string(own) + string(out) + ready + warned
}

// warnings are the lines of a log that are not of level info.
func warnings(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "level=WARN") && !strings.Contains(l, "level=ERROR") }), "\n")
}

// says fails the test unless a text that milena shows matches all patterns.
func (d *disaster) says(text string, patterns ...string) {
	d.t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			d.t.Errorf("milena does not say %q", p)
		}
	}
}

// wantCompleteUpTo fails the test if milena says that the copy is complete up to a later time than it can be: records that it has not seen were written since.
func (d *disaster) wantCompleteUpTo(latest time.Time) {
	d.t.Helper()
	if rpo := d.status().RPO; rpo.CompleteUpTo.After(latest.Add(time.Second)) {
		d.t.Errorf("the disaster began at %v, and milena says %+v", latest, rpo)
	}
}

// status is that of the flow.
func (d *disaster) status() daemon.Status {
	d.t.Helper()
	all, err := d.milena.Status(d.t.Context())
	must(d.t, err)
	if len(all) != 1 {
		d.t.Fatalf("%d flows", len(all))
	}
	return all[0]
}

// mended waits until the flow is ready again and every partition is copied further. Milena is the process that it was.
func (d *disaster) mended() {
	d.t.Helper()
	mended := time.Now()
	must(d.t, d.milena.WaitReady(d.within(2*time.Minute, "milena is ready again")))
	d.t.Logf("ready again %.1f s after the cluster was mended", time.Since(mended).Seconds())
	d.untilMoved(time.Minute, d.streamed...)
	d.t.Logf("all partitions are copied again %.1f s after the cluster was mended", time.Since(mended).Seconds())
}

// over waits until the disaster is over and everything is copied, and proves that it was copied once and in order.
func (d *disaster) over() {
	d.t.Helper()
	d.mended()
	for _, s := range d.streams {
		acked, err := s.Stop(d.within(time.Minute, "the source has taken all records"))
		must(d.t, err)
		d.acked += acked
	}
	d.untilCopied()
	for _, p := range d.status().Partitions {
		if p.Anomaly != nil || len(p.Gaps) > 0 {
			d.t.Errorf("%s[%d]: %+v %+v", p.Topic, p.Partition, p.Anomaly, p.Gaps)
		}
	}
	report, err := verify.Run(d.within(time.Minute, "the verifier ends"), d.sourceClient, d.targetClient, verify.Options{Topics: d.topics, Name: remote})
	must(d.t, err)
	if len(report.Differences) > 0 || report.Records < d.acked {
		d.t.Errorf("%d records equal of %d that the source has acknowledged: %v", report.Records, d.acked, report.Differences)
	}
	d.t.Logf("%d records are equal: none lost, none twice, none out of order", report.Records)
}

func remote(topic string) string { return "source." + topic }

// untilCopied waits until everything that the source has is copied.
func (d *disaster) untilCopied() {
	d.t.Helper()
	admin := kadm.NewClient(d.sourceClient)
	ends, err := admin.ListEndOffsets(d.t.Context(), d.topics...)
	must(d.t, errors.Join(err, ends.Error()))
	for _, topic := range d.topics {
		d.until(time.Minute, topic+" is copied to its end", func() (bool, string) {
			acked := d.ackedOf(topic)
			for p, end := range ends[topic] {
				if acked[p] < end.Offset {
					return false, fmt.Sprintf("partition %d is at %d of %d", p, acked[p], end.Offset)
				}
			}
			return true, ""
		})
	}
}
