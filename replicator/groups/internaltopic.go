package groups

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// writeTimeout is the timeout of one produce request. Records that are late are soon written again, so a longer wait has no use.
const writeTimeout = 3 * time.Second

// maxBatchBytes is the size from which a batch is sent, far below the default max.message.bytes.
const maxBatchBytes = 512 << 10

// record is a record of an internal topic: a heartbeat, a checkpoint or an offset-sync.
type record interface {
	AppendKey(b []byte) []byte
	AppendValue(b []byte) []byte
}

// internalTopic writes one of MirrorMaker 2's internal topics on one cluster: one partition, compacted. It uses plain produce requests: a
// duplicated record is gone after compaction, so no fence is needed and a write without an answer is simply repeated. It never writes a
// tombstone, because MirrorMaker 2's readers fail on one.
type internalTopic struct {
	deps   *Deps
	client *kgo.Client
	side   offsets.Side
	alias  string // of the cluster
	name   string
	grows  bool // so fast that it needs small segments, because compaction skips the active one

	mu      sync.Mutex
	created time.Time // when this process created the topic, zero if it did not
	problem string    // why the last write failed, empty if it did not
}

func newInternalTopic(d *Deps, side offsets.Side, name string) *internalTopic {
	if side == offsets.Source {
		return &internalTopic{deps: d, client: d.SourceClient, side: side, alias: d.Flow.Source, name: name}
	}
	return &internalTopic{deps: d, client: d.TargetClient, side: side, alias: d.Flow.Target, name: name}
}

func (t *internalTopic) view() topics.View { return t.deps.Host.View(t.side) }

// id returns the topic's id as last seen, zero if it does not exist.
func (t *internalTopic) id() [16]byte { return t.view().ByName[t.name].ID }

// write appends records with one timestamp to the topic with an id, and creates the topic first if it does not exist. If it has another id by now, it
// writes nothing: whoever notes what is written must know in which topic it is. It returns how many of the records, from the first one, are
// acknowledged. After an error, the others may or may not be there, and must be written again. It reports the error itself.
func (t *internalTopic) write(ctx context.Context, id [16]byte, at time.Time, records []record) (written int, err error) {
	var batch []recordbatch.Record
	bytes := 0
	for i, r := range records {
		key, value := r.AppendKey(nil), r.AppendValue(nil)
		batch = append(batch, recordbatch.Record{Timestamp: at.UnixMilli(), Offset: int64(len(batch)), Key: key, Value: value})
		bytes += len(key) + len(value) + 16
		if i+1 < len(records) && bytes < maxBatchBytes {
			continue
		}
		if err := t.writeBatch(ctx, id, batch); err != nil {
			if !errors.Is(context.Cause(ctx), context.Canceled) { // a stop is not a problem
				t.reportError(err)
			}
			return written, err
		}
		t.deps.Metrics.Records.WithLabelValues(t.alias, t.name).Add(float64(len(batch)))
		written += len(batch)
		batch, bytes = nil, 0
	}
	t.reportSuccess()
	return written, nil
}

func (t *internalTopic) writeBatch(ctx context.Context, id [16]byte, records []recordbatch.Record) error {
	batch, err := recordbatch.Encode(records, recordbatch.None)
	if err != nil {
		return fmt.Errorf("encode %s: %w", t.name, err)
	}
	view := t.view()
	topic := view.ByName[t.name]
	if !topic.Exists() {
		return t.create(ctx)
	}
	leader := view.Leader(offsets.TopicPartition{Topic: t.name})
	switch {
	case topic.ID != id:
		return errCreated
	case leader < 0:
		t.deps.Host.RefreshSoon()
		return fmt.Errorf("topic %s on cluster %s has no leader", t.name, t.alias)
	case t.deps.Throttles.Left(string(t.side), leader) > writeTimeout:
		return errThrottled
	}
	return t.produce(ctx, leader, id, batch)
}

func (t *internalTopic) produce(ctx context.Context, leader int32, id [16]byte, batch []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout) // long: a batch may take seconds over a slow line
	defer cancel()
	partition := offsets.TopicPartition{Topic: t.name}
	request := wire.NewProduceRequest(writeTimeout)
	request.Add(partition, id, batch)
	answer, err := t.client.Broker(int(leader)).Request(ctx, request)
	if errors.Is(err, context.DeadlineExceeded) && t.deps.Throttles.Recent(string(t.side)) {
		return errThrottled
	}
	if err != nil {
		t.deps.Host.RefreshSoon()
		return fmt.Errorf("write to %s on cluster %s: %w", t.name, t.alias, err)
	}
	answered := wire.IndexProduce(answer.(*kmsg.ProduceResponse)).Of(partition, id)
	if answered == nil {
		return fmt.Errorf("write to %s on cluster %s: the answer does not name the partition", t.name, t.alias)
	}
	err = kerr.ErrorForCode(answered.ErrorCode)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("write to %s on cluster %s: %w; grant WRITE on it to milena's user", t.name, t.alias, err)
	}
	t.deps.Host.RefreshSoon()
	return fmt.Errorf("write to %s on cluster %s: %w", t.name, t.alias, err)
}

// errCreated means that the topic was created, and can be written to when the metadata has it.
var errCreated = errors.New("the topic was just created")

// errThrottled means that a quota requires a longer wait than a write may take. A client that gives up on a throttled request closes its
// connection, and a new connection would evade the quota.
var errThrottled = errors.New("the broker throttles this client")

// createWait is how long a created topic may take to appear in the metadata before it is created again.
const createWait = 2 * time.Second

// create creates the topic as MirrorMaker 2 does: one partition, compacted. One that grows fast has small segments too, if the cluster allows
// them. An existing topic is used as it is.
func (t *internalTopic) create(ctx context.Context) error {
	if t.justCreated() {
		return errCreated
	}
	own := topics.Own{Name: t.name, Partitions: 1, ReplicationFactor: t.deps.Flow.ReplicationFactor, Brokers: len(t.view().Brokers), SmallSegments: t.grows}
	if own.Brokers > 0 && int(own.ReplicationFactor) > own.Brokers { // it is that of copies, and this may be the source
		own.ReplicationFactor = int16(own.Brokers)
	}
	created, _, err := own.Create(ctx, t.client, t.alias)
	switch {
	case created:
		t.deps.Log.Info("topic created", "cluster", t.alias, "topic", t.name)
	case err == nil:
		// Another instance has created it.
	case isDenied(err):
		// The next write tries again, because the permission may be granted meanwhile.
		return fmt.Errorf("%w; WRITE is needed too; or create it (1 partition, cleanup.policy=compact)", err)
	default:
		return err
	}
	t.deps.Host.RefreshSoon()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.created = time.Now()
	return errCreated
}

func (t *internalTopic) justCreated() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.created.IsZero() && time.Since(t.created) < createWait
}

// reportError counts a failed write, and logs it if the write before succeeded: a permission that nobody intends to grant is not worth a
// line every time.
func (t *internalTopic) reportError(err error) {
	if errors.Is(err, errCreated) || errors.Is(err, errThrottled) {
		return
	}
	t.deps.Metrics.RecordErrors.WithLabelValues(t.alias, t.name).Inc()
	if before := t.setProblem(err.Error()); before == "" {
		t.deps.Log.Warn("writing to an internal topic failed, retrying", "cluster", t.alias, "topic", t.name, "err", err)
	}
}

// reportSuccess logs that a problem has ended.
func (t *internalTopic) reportSuccess() {
	if before := t.setProblem(""); before != "" {
		t.deps.Log.Info("writing to an internal topic works again", "cluster", t.alias, "topic", t.name)
	}
}

// setProblem returns the problem before.
func (t *internalTopic) setProblem(problem string) (before string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, t.problem = t.problem, problem
	return before
}

// problems returns why the last write failed, if it did.
func (t *internalTopic) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.problem == "" {
		return nil
	}
	return []string{t.problem}
}
