package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/compare"
)

// The exit code is 0 beside a correct MirrorMaker 2, and 1 with a sentence after another producer has written to the copy.
func TestCompareFailsOnADifference(t *testing.T) {
	source, write := comparedCluster(t, "one", "orders")
	target, mirror := comparedCluster(t, "two", "a.orders")
	for i := range 10 {
		r := &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "order %d", i)}
		write(r)
		mirror(&kgo.Record{Topic: "a.orders", Value: r.Value, Timestamp: r.Timestamp})
	}
	properties := file(t, fmt.Sprintf("clusters = a, b\na.bootstrap.servers = %s\nb.bootstrap.servers = %s\na->b.enabled = true\nreplication.factor = 1\n", source, target))
	code, stdout, stderr := milena(t, "run", "--compare", "--for", "2s", "-c", properties)
	if code != exitClean || !strings.Contains(stdout, "10 records equal") || !strings.Contains(stdout, "no differences") || stderr != "" {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	mirror(&kgo.Record{Topic: "a.orders", Value: []byte("of another producer")})
	sentence := "orders-0: 1 record of a.orders-0 not on the source"
	code, stdout, stderr = milena(t, "run", "--compare", "--for", "2s", "-c", properties)
	if code != exitFailed || !strings.Contains(stdout, "differs: "+sentence) || !strings.Contains(stderr, "compare: 1 difference\n") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	var all []compare.Report
	code, stdout, _ = milena(t, "run", "--compare=all", "--for", "2s", "--json", "-c", properties)
	if err := json.Unmarshal([]byte(stdout), &all); code != exitFailed || err != nil || len(all) != 1 || !strings.HasPrefix(all[0].Differences[0], sentence) {
		t.Errorf("exit %d, %v\n%s", code, err, stdout)
	}
}

// comparedCluster starts a cluster with one topic. It returns its address and a function that writes one record.
func comparedCluster(t *testing.T, id, topic string) (string, func(*kgo.Record)) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id), kfake.SeedTopics(1, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return c.ListenAddrs()[0], func(r *kgo.Record) {
		t.Helper()
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// On a terminal the comparison is redrawn until it stops.
func TestComparisonIsRedrawn(t *testing.T) {
	var out lockedBuffer
	p := newProgram(&out, io.Discard, noEnv)
	flow := config.DefaultFlow("a", "b")
	c, err := compare.New(client.Clusters{
		Flow: flow, Source: config.Cluster{Brokers: []string{"127.0.0.1:1"}}, Target: config.Cluster{Brokers: []string{"127.0.0.1:2"}}, Log: slog.New(slog.DiscardHandler),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		p.watchComparison(ctx, []*compare.Comparison{c})
	}()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(out.String(), "flow a-b: a -> b, reading the topics") < 2 {
		select {
		case <-deadline:
			t.Fatalf("shown:\n%s", out.String())
		case <-tick.C:
		}
	}
	end()
	<-shown
	if !strings.Contains(out.String(), "Press Ctrl-C to stop. Nothing is written to either cluster.") {
		t.Errorf("shown:\n%s", out.String())
	}
}
