package verify_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/replicatortest"
	"github.com/milena-kafka/milena/replicator/verify"
)

// Only the partitions that are wanted are verified, and one after the other if so many are.
func TestVerifyOnly(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 3)
	c.Source.CreateTopic("payments", 1)
	c.Source.Produce("orders", 3, 10, "some")
	c.Source.Produce("payments", 1, 10, "some")
	f := c.Start(noHeartbeats)
	f.UntilJournaled("orders")
	f.UntilJournaled("payments")
	f.Stop()
	o := options(c)
	o.AtOnce = 1
	o.Only = func(tp offsets.TopicPartition) bool { return tp.Topic == "orders" && tp.Partition > 0 }
	var waits atomic.Int64
	o.Wait = func(context.Context) error { waits.Add(1); return nil }
	r := run(t, o)
	wantEqual(t, r, 20)
	if len(r.Partitions) != 2 || r.Partitions[0].Partition != 1 || r.Partitions[1].Partition != 2 {
		t.Errorf("%+v", r.Partitions)
	}
	if waits.Load() < 4 {
		t.Errorf("%d requests were waited for, of two partitions and sides", waits.Load())
	}
}

// A turn ends before the partition does. The next one goes on from there, and both have the sums of one.
func TestVerifyInTurns(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	for range 300 { // of the judge's steps, so that it looks at the clock in between
		c.Source.Produce("orders", 1, 3, "some")
	}
	f := c.Start(noHeartbeats, replicatortest.FastJournal)
	f.UntilJournaled("orders")
	f.Stop()
	o := options(c)
	o.Turn = time.Nanosecond
	store := &memory{}
	o.Store = store
	turns := 0
	for {
		v, err := verify.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		list := v.Saved()
		if len(list) != 1 || list[0].Found.Differing != 0 || list[0].Found.NotVerified != "" {
			t.Fatalf("%+v", list)
		}
		turns++
		if list[0].IsComplete() {
			wantEqual(t, v.Report(), 900)
			break
		}
		d := &verify.Document{Header: verify.HeaderOf("a-b", "source-cluster", "target-cluster"), Partitions: list}
		if turns > 1000 || store.document != nil && list[0].Position == store.document.Partitions[0].Position {
			t.Fatalf("turn %d does not come further than %+v", turns, list[0].Position)
		}
		store.document = d
	}
	if turns < 2 {
		t.Errorf("%d turns", turns)
	}
}

// What waits for the copy ends with its context.
func TestVerifyEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.Produce("orders", 1, 3, "some")
	f := c.Start(noHeartbeats, replicatortest.FastJournal)
	f.UntilJournaled("orders")
	f.Stop()
	o := options(c)
	ctx, cancel := context.WithCancel(t.Context())
	o.Wait = func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
