package long_test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
)

// latencies are the times from the timestamps of records, which their producer sets, to the arrival of the copies at a reader of the target.
type latencies struct {
	mu   sync.Mutex
	list []time.Duration
}

func (l *latencies) read(ctx context.Context, cl *kgo.Client) {
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.list = append(l.list, time.Since(r.Timestamp))
		})
	}
}

// figures are what a window has measured.
type figures struct {
	records           int
	median, p99, most time.Duration
}

func (f figures) String() string {
	return fmt.Sprintf("%d records; median %v, 99%% %v, at most %v", f.records, f.median.Round(time.Millisecond), f.p99.Round(time.Millisecond), f.most.Round(time.Millisecond))
}

// take ends a window, and begins the next one.
func (l *latencies) take() (f figures) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.list)
	if n := len(l.list); n > 0 {
		f = figures{n, l.list[n/2], l.list[n*99/100], l.list[n-1]}
	}
	l.list = nil
	return f
}

// Drills on a schedule beside load, every 20 s, for ten minutes, after as long without any: what they cost the flow. MILENA_MINUTES is how long each part
// lasts.
func TestDrillsOnASchedule(t *testing.T) {
	jars := requireLong(t)
	ctx := t.Context()
	lasts := time.Duration(number(t, "MILENA_MINUTES", 10)) * time.Minute
	bin, err := daemon.Build(ctx, t.TempDir())
	must(t, err)
	dir := t.TempDir()
	clusters, err := kafka.StartAll(ctx, jars, kafka.Options{Name: "source", Dir: dir}, kafka.Options{Name: "target", Dir: dir})
	must(t, err)
	source, target := clusters[0], clusters[1]
	must(t, source.Admin(func(admin *kadm.Client) error { return kafka.CreateTopic(ctx, admin, "orders", 6, 1) }))
	w, err := load.New(source, load.Options{Topic: "orders", Partitions: 6})
	must(t, err)
	t.Cleanup(w.Close)
	must(t, w.Write(ctx, 6000))
	must(t, source.Admin(func(admin *kadm.Client) error {
		for i := range int64(50) {
			var at kadm.Offsets
			for partition := range int32(6) {
				at.AddOffset("orders", partition, 19*i, -1)
			}
			if err := admin.CommitAllOffsets(ctx, fmt.Sprintf("group-%02d", i), at); err != nil {
				return err
			}
		}
		return nil
	}))
	m, err := daemon.New(ctx, bin, t.TempDir(), daemon.Map{
		"clusters": daemon.Map{"source": daemon.Map{"brokers": source.Addrs()}, "target": daemon.Map{"brokers": target.Addrs()}},
		"flows":    []daemon.Map{{"source": "source", "target": "target", "topics": []string{"orders"}, "groups_interval": "1s"}},
	})
	must(t, err)
	must(t, m.Start(ctx))
	t.Cleanup(m.Kill)
	must(t, m.WaitReady(ctx))
	reader, err := target.Client(kgo.ConsumeTopics("source.orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	must(t, err)
	t.Cleanup(reader.Close)
	measured := &latencies{}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go measured.read(reading, reader)
	const perSecond = 1000
	stream := w.Stream(ctx, perSecond)
	wait(ctx, 20*time.Second)
	measured.take() // all is slow at first

	wait(ctx, lasts)
	without := measured.take()
	drills := 0
	for until := time.Now().Add(lasts); time.Now().Before(until); {
		next := time.Now().Add(20 * time.Second)
		drill := exec.CommandContext(ctx, m.Binary(), "drill", "-c", m.Config(), "--freeze", "none", "--no-reverse")
		if out, err := drill.CombinedOutput(); err != nil {
			t.Errorf("drill %d: %v\n%s", drills+1, err, out)
		}
		drills++
		wait(ctx, time.Until(next))
	}
	with := measured.take()
	t.Logf("without drills: %v", without)
	t.Logf("with %d drills: %v", drills, with)
	written, err := stream.Stop(ctx)
	must(t, err)
	if least := int(lasts.Seconds()) * perSecond * 9 / 10; with.records < least {
		t.Errorf("%d records were copied beside the drills, fewer than %d", with.records, least)
	}
	if with.p99 > 3*without.p99+200*time.Millisecond {
		t.Errorf("the drills have slowed the flow down")
	}
	must(t, target.Admin(func(admin *kadm.Client) error {
		listed, err := admin.ListGroups(ctx)
		if left := slices.DeleteFunc(listed.Groups(), func(name string) bool { return len(name) < 12 || name[:12] != "milena-drill" }); len(left) > 0 {
			t.Errorf("these groups are left: %v", left)
		}
		return err
	}))
	out, err := exec.CommandContext(ctx, m.Binary(), "verify", "-c", m.Config()).CombinedOutput()
	t.Logf("%d records were written\n%s", written, out)
	must(t, err)
}

// wait waits while the load runs.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
