package switching

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// producer writes records one batch after the other. A batch has a record for some of the partitions.
type producer struct {
	app          *App
	name         string
	perSecond    int
	transactions bool

	next    int           // number of the next new record
	refused []*kgo.Record // they are not written for sure, and are written first after the next start
	doubt   []*kgo.Record // they may be written
	cancel  context.CancelFunc
	ended   chan struct{}
}

const batchesPerSecond = 8

func (p *producer) start(ctx context.Context, cluster int) error {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(Topic)}
	if p.transactions {
		opts = append(opts, kgo.TransactionalID(p.name), kgo.TransactionTimeout(20*time.Second))
	}
	cl, err := p.app.w.client(cluster, opts...)
	if err != nil {
		return err
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		defer cl.Close()
		p.run(ctx, cl, cluster)
		p.settle(context.WithoutCancel(ctx), cluster)
	}()
	return nil
}

// stop waits for the batch that is under way.
func (p *producer) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	<-p.ended
	p.cancel = nil
}

// run writes until ctx ends or the cluster refuses records.
func (p *producer) run(ctx context.Context, cl *kgo.Client, cluster int) {
	tick := time.NewTicker(time.Second / batchesPerSecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		batch := p.batch()
		var ok bool
		if p.transactions {
			ok = p.transact(ctx, cl, cluster, batch, kgo.TransactionEndTry(n%4 != 3))
		} else {
			ok = p.write(ctx, cl, cluster, batch)
		}
		if !ok {
			return
		}
	}
}

// batch is what was refused, or new records.
func (p *producer) batch() []*kgo.Record {
	if len(p.refused) > 0 {
		batch := p.refused
		p.refused = nil
		for i, r := range batch {
			batch[i] = &kgo.Record{Partition: r.Partition, Value: r.Value}
		}
		return batch
	}
	var batch []*kgo.Record
	for range max(1, p.perSecond/batchesPerSecond) {
		partition := p.next % p.app.w.Partitions
		batch = append(batch, &kgo.Record{Partition: int32(partition), Value: fmt.Appendf(nil, "%s/%d/%d", p.name, partition, p.next)})
		p.next++
	}
	return batch
}

// write writes a batch. It returns false if a record was refused.
func (p *producer) write(ctx context.Context, cl *kgo.Client, cluster int, batch []*kgo.Record) bool {
	good := true
	for _, r := range p.produce(ctx, cl, batch) {
		switch {
		case r.Err == nil:
			p.app.note(r.Record, cluster)
			continue
		case isRefused(r.Err):
			p.refused = append(p.refused, r.Record)
		default:
			p.doubt = append(p.doubt, r.Record)
		}
		good = false
	}
	return good
}

// produce writes a batch. If ctx ends, it waits a little for the answer, and then closes the client, as an application does that is started again: the client
// of a producer that is throttled keeps a request for minutes, whatever is canceled, and sends it once it connects again.
func (p *producer) produce(ctx context.Context, cl *kgo.Client, batch []*kgo.Record) kgo.ProduceResults {
	answered := make(chan struct{})
	defer close(answered)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-answered:
		case <-time.After(answerWait):
			cl.Close()
		}
	})
	defer stop()
	return cl.ProduceSync(context.WithoutCancel(ctx), batch...)
}

// answerWait is how long a producer that is stopped waits for an answer. A throttled one gets none.
const answerWait = 2 * time.Second

// isRefused reports whether a record is not written for sure.
func isRefused(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

func (a *App) note(r *kgo.Record, cluster int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written[string(r.Value)] = fmt.Sprintf("%s/%d/%d", a.w.clusters[cluster].Name(), r.Partition, r.Offset)
}

// transact writes a batch in a transaction.
func (p *producer) transact(ctx context.Context, cl *kgo.Client, cluster int, batch []*kgo.Record, end kgo.TransactionEndTry) bool {
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		p.app.fail("begin a transaction: %w", err)
		return false
	}
	results := p.produce(ctx, cl, batch)
	if err := results.FirstErr(); err != nil {
		// Whatever was written is aborted with the transaction: by the producer, or, if that is refused or the client closed, by its next start or the timeout of
		// the transaction.
		p.refused = append(p.refused, batch...)
		aborted := errors.Join(cl.AbortBufferedRecords(patient), cl.EndTransaction(patient, kgo.TryAbort))
		if !isRefused(err) && !errors.Is(err, kgo.ErrClientClosed) {
			p.app.fail("write in a transaction: %w", err)
		}
		if aborted != nil {
			p.app.w.Logf("a transaction is left open: %v", aborted)
		}
		p.app.abort(batch)
		return false
	}
	if err := cl.EndTransaction(patient, end); err != nil {
		p.app.fail("end a transaction: %w", err)
		return false
	}
	if end == kgo.TryAbort {
		p.app.abort(batch)
		return true
	}
	for _, r := range results {
		p.app.note(r.Record, cluster)
	}
	return true
}

// abort notes records of an aborted transaction. They may be written again later.
func (a *App) abort(batch []*kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range batch {
		a.aborted[string(r.Value)] = true
	}
}

// settle finds out which of the records that may be written are: as an application does that looks them up.
func (p *producer) settle(ctx context.Context, cluster int) {
	if len(p.doubt) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cl, err := p.app.w.clusters[cluster].Client(kgo.KeepControlRecords())
	if err != nil {
		p.app.fail("look up records: %w", err)
		return
	}
	defer cl.Close()
	found, err := readAll(ctx, cl)
	if err != nil {
		p.app.fail("look up records: %w", err)
		return
	}
	for _, r := range p.doubt {
		if at, ok := found[string(r.Value)]; ok {
			p.app.note(at, cluster)
		} else {
			p.refused = append(p.refused, r)
		}
	}
	p.app.w.Logf("%d records may have been written to %s: %d are not", len(p.doubt), p.app.w.clusters[cluster].Name(), len(p.refused))
	p.doubt = nil
}

// readAll reads the topic up to its present end.
func readAll(ctx context.Context, cl *kgo.Client) (map[string]*kgo.Record, error) {
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	from, left := make(map[int32]kgo.Offset), make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			from[o.Partition], left[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	found := make(map[string]*kgo.Record)
	if len(from) == 0 {
		return found, nil
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{Topic: from})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			found[string(r.Value)] = r
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return found, nil
}
