package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
	"github.com/milena-kafka/milena/e2e/verify"
)

// inject lets one fault happen, and ends it.
func (w *world) inject(ctx context.Context, f Fault) error {
	switch f.Kind {
	case KillMilena:
		w.milena.Kill()
		return w.restartAfter(ctx, f.Lasts)
	case KillAtBurst:
		return w.killAtBurst(ctx, f)
	case StopMilena:
		return w.stopMilena(ctx, f)
	case FreezeMilena:
		return w.freezeMilena(ctx, f)
	case KillBroker:
		return w.killBroker(ctx, f)
	case FreezeBroker:
		b := w.side(f.Side).Broker(f.Broker)
		if err := b.Pause(); err != nil {
			return err
		}
		return errors.Join(w.during(ctx, f), b.Resume())
	case Network:
		c := w.side(f.Side).Cluster
		if err := c.Network(ctx, f.Mode); err != nil {
			return err
		}
		return errors.Join(w.during(ctx, f), c.Network(ctx, proxy.Pass))
	case MoveLeaders:
		return errors.Join(again(ctx, func() error { return w.moveLeaders(ctx, f) }), w.during(ctx, f))
	case DeleteSource:
		return w.deleteSource(ctx, f)
	case DeleteTarget:
		return w.deleteTarget(ctx, f)
	case RecreateTopic:
		return w.recreate(ctx, f)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// during waits until a fault is over, and kills milena in between if the fault says so.
func (w *world) during(ctx context.Context, f Fault) error {
	if f.Kill == 0 {
		return pause(ctx, f.Lasts)
	}
	if err := pause(ctx, f.Kill); err != nil {
		return err
	}
	w.milena.Kill()
	return errors.Join(w.restartAfter(ctx, 0), pause(ctx, f.Lasts-f.Kill))
}

// again retries what may be done twice for up to a minute: a broker that an earlier fault has killed may not serve yet, although the metadata
// of the others says so.
func again(ctx context.Context, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		if err == nil || time.Since(began) > time.Minute {
			return err
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// restartAfter starts milena again, which is dead.
func (w *world) restartAfter(ctx context.Context, d time.Duration) error {
	if err := pause(ctx, d); err != nil {
		return err
	}
	return w.milena.Start(ctx)
}

// killAtBurst writes a burst to the compacted topics, waits until the first of it is on the target, and kills milena at once. The cleaners
// of both clusters work while it is dead.
func (w *world) killAtBurst(ctx context.Context, f Fault) error {
	before := map[string]int64{}
	for _, t := range w.topics {
		if ends, err := verify.ReadEnds(ctx, w.target.client, t.remote()); err == nil {
			before[t.name] = sum(ends.End)
		}
	}
	producer, err := w.source.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(time.Minute))
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := w.burst(ctx, producer, 200); err != nil {
		return err
	}
	arrived, cancel := context.WithTimeout(ctx, 3*time.Second) // or milena is busy with the fault before: it is killed all the same
	defer cancel()
	_ = w.milena.Until(arrived, 5*time.Millisecond, func() (bool, string) {
		ends, err := verify.ReadEnds(arrived, w.target.client, "source.compacted")
		return err == nil && sum(ends.End) > before["compacted"], ""
	})
	if err := pause(ctx, f.Kill); err != nil {
		return err
	}
	w.milena.Kill()
	return w.restartAfter(ctx, f.Lasts)
}

// burst writes n records without marks to each partition of the compacted topics. Their keys are the burst's own.
func (w *world) burst(ctx context.Context, producer *kgo.Client, n int) error {
	var records []*kgo.Record
	for _, t := range w.topics {
		if t.judge != compacted {
			continue
		}
		for i := range n {
			for partition := range t.partitions {
				records = append(records, &kgo.Record{
					Topic: t.name, Partition: int32(partition), Key: fmt.Appendf(nil, "burst-%d", i%(n/2)),
					Value: fmt.Appendf(nil, "%s/%d/%d burst", t.name, partition, time.Now().UnixNano()),
				})
			}
		}
	}
	return producer.ProduceSync(ctx, records...).FirstErr()
}

func sum(ends map[int32]int64) (n int64) {
	for _, end := range ends {
		n += end
	}
	return n
}

func (w *world) stopMilena(ctx context.Context, f Fault) error {
	stopped, cancel := context.WithTimeoutCause(ctx, 45*time.Second, errors.New("milena did not stop within 45 s of SIGTERM"))
	defer cancel()
	// Until the process handles signals, SIGTERM ends it at once, which is one more kill.
	if err := w.milena.Until(stopped, 5*time.Millisecond, func() (bool, string) {
		_, err := w.milena.Status(stopped)
		return err == nil, fmt.Sprint(err)
	}); err != nil {
		return err
	}
	code, err := w.milena.Stop(stopped)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("milena exited with code %d after SIGTERM:\n%s", code, w.milena.Tail(20))
	}
	return w.restartAfter(ctx, f.Lasts)
}

func (w *world) freezeMilena(ctx context.Context, f Fault) error {
	if err := w.milena.Pause(); err != nil {
		return err
	}
	return errors.Join(pause(ctx, f.Lasts), w.milena.Resume())
}

// killBroker kills a broker, restarts it, and waits until all replicas are in sync, so that the next kill leaves a majority.
func (w *world) killBroker(ctx context.Context, f Fault) error {
	s := w.side(f.Side)
	b := s.Broker(f.Broker)
	b.Kill()
	if err := w.during(ctx, f); err != nil {
		return err
	}
	if err := b.Restart(ctx); err != nil {
		return err
	}
	return kafka.WaitWhole(ctx, s.admin, s.Name())
}

func readEnds(ctx context.Context, s side, topic string) (ends verify.Ends, err error) {
	err = again(ctx, func() error {
		ends, err = verify.ReadEnds(ctx, s.client, topic)
		return err
	})
	return ends, err
}

// moveLeaders shuffles the replicas of every partition and makes the first one its leader.
func (w *world) moveLeaders(ctx context.Context, f Fault) error {
	s := w.side(f.Side)
	topics, err := s.admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("move leaders: %w", err)
	}
	assignments := kadm.AlterPartitionAssignmentsReq{}
	elected := kadm.TopicsSet{}
	r := rand.New(rand.NewPCG(uint64(f.Broker), uint64(f.Lasts)))
	for _, detail := range topics {
		for _, p := range detail.Partitions {
			replicas := append([]int32{}, p.Replicas...)
			r.Shuffle(len(replicas), func(i, j int) { replicas[i], replicas[j] = replicas[j], replicas[i] })
			assignments.Assign(p.Topic, p.Partition, replicas)
			elected.Add(p.Topic, p.Partition)
		}
	}
	if _, err := s.admin.AlterPartitionAssignments(ctx, assignments); err != nil {
		return fmt.Errorf("move leaders: %w", err)
	}
	if _, err := s.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, elected); err != nil {
		return fmt.Errorf("move leaders: %w", err)
	}
	return nil
}

// deleteSource deletes records that are copied from the source's topic "trimmed", up to the end of what milena said is acknowledged.
func (w *world) deleteSource(ctx context.Context, f Fault) error {
	t := w.topic("trimmed")
	acked := map[int32]int64{}
	partitions, err := w.milena.Partitions(ctx)
	if err != nil {
		w.Logf("  status: %v: nothing is deleted", err) // it has just been killed
	}
	for _, p := range partitions {
		if p.Topic == t.name && p.State != "waiting" {
			acked[p.Partition] = p.Acked
		}
	}
	return w.delete(ctx, f, w.source, t.name, acked)
}

// deleteTarget deletes records of the copy of "trimmed-target", all but the last one at most, and notes which was the last.
//
// This target forgets producers within seconds. If it deleted all, nothing would tell whether what was not journaled yet were records or markers of
// fences, and the partition would rightly be halted. For the same reason it waits until no takeover runs.
func (w *world) deleteTarget(ctx context.Context, f Fault) error {
	t := w.topic("trimmed-target")
	ready, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not ready within a minute"))
	defer cancel()
	if err := w.milena.WaitReady(ready); err != nil {
		return err
	}
	if f.Kill > 0 {
		w.milena.Kill()
	}
	f.Kill = 0
	upTo := map[int32]int64{}
	for partition := range int32(t.partitions) {
		var copied []*kgo.Record
		err := again(ctx, func() (err error) {
			copied, err = read(ctx, w.target.client, t.remote(), partition)
			return err
		})
		if err != nil {
			return err
		}
		n := int(f.Share * float64(len(copied)-1))
		if n < 1 {
			continue
		}
		seq, err := load.Sequence(copied[n-1])
		if err != nil {
			return err
		}
		t.deleted[partition], upTo[partition] = seq+1, copied[n].Offset
	}
	f.Share = 1
	if err := w.delete(ctx, f, w.target, t.remote(), upTo); err != nil {
		return err
	}
	if !w.milena.Process().Running() {
		return w.milena.Start(ctx)
	}
	return nil
}

// delete deletes a share of the records below these offsets. Milena is dead meanwhile, if the fault says so.
func (w *world) delete(ctx context.Context, f Fault, s side, name string, below map[int32]int64) error {
	if f.Kill > 0 {
		w.milena.Kill()
	}
	ends, err := readEnds(ctx, s, name)
	if err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	for partition, end := range below {
		start := ends.Start[partition]
		if to := start + int64(f.Share*float64(end-start)); to > start {
			offsets.Add(kadm.Offset{Topic: name, Partition: partition, At: to})
		}
	}
	if len(offsets) > 0 {
		err := again(ctx, func() error {
			done, err := s.admin.DeleteRecords(ctx, offsets)
			return errors.Join(err, done.Error())
		})
		if err != nil {
			return fmt.Errorf("delete records of %s: %w", name, err)
		}
	}
	if f.Kill > 0 {
		return w.restartAfter(ctx, f.Lasts)
	}
	return pause(ctx, f.Lasts)
}

// recreate deletes the topic "recreated" and creates it again. The writer of the new one numbers its records from 0.
func (w *world) recreate(ctx context.Context, f Fault) error {
	t := w.topic("recreated")
	if err := t.end(ctx); err != nil {
		return err
	}
	err := again(ctx, func() error {
		_, err := w.source.admin.DeleteTopic(ctx, t.name)
		if errors.Is(err, kerr.UnknownTopicOrPartition) { // an earlier attempt
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", t.name, err)
	}
	t.life++
	if err := w.during(ctx, f); err != nil {
		return err
	}
	return w.begin(ctx, t)
}

func (w *world) topic(name string) *topic {
	for _, t := range w.topics {
		if t.name == name {
			return t
		}
	}
	panic("no topic " + name)
}
