package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// notebookTimeout is what one write may take. Bookkeeping that is late is written again soon, so there is no point in waiting long.
const notebookTimeout = 3 * time.Second

// note is one record of a notebook. Every format that MirrorMaker 2 has knows how to write itself.
type note interface {
	AppendKey(b []byte) []byte
	AppendValue(b []byte) []byte
}

// notebook is one of MirrorMaker 2's bookkeeping topics on one cluster: one partition, compacted. It is written with plain produce requests:
// a record that stands twice is the same after compaction, so that no fence is needed and a lost answer is answered by writing again.
// Never a tombstone: MirrorMaker 2's readers die of one.
type notebook struct {
	flow   *Flow
	client *kgo.Client
	side   string // source or target
	alias  string
	topic  string
	view   func() topics.View

	mu      sync.Mutex
	missing time.Time // since when a topic that was made is waited for
	trouble string    // why the last write failed, empty when it did not
}

func (f *Flow) sourceNotebook(topic string) *notebook {
	return &notebook{flow: f, client: f.source, side: "source", alias: f.sourceAlias, topic: topic, view: f.sourceView}
}

func (f *Flow) targetNotebook(topic string) *notebook {
	return &notebook{flow: f, client: f.books, side: "target", alias: f.targetAlias, topic: topic, view: f.targetView}
}

// id is that of the topic as it was seen last, zero while there is none.
func (n *notebook) id() [16]byte { return n.view().ByName[n.topic].ID }

// write appends notes with one timestamp, and makes the topic first if it is not there. An error means that some or all may have to be written again.
func (n *notebook) write(ctx context.Context, at time.Time, notes []note) error {
	ctx, cancel := context.WithTimeout(ctx, 2*notebookTimeout)
	defer cancel()
	var records []recordbatch.Record
	bytes := 0
	for i, note := range notes {
		key, value := note.AppendKey(nil), note.AppendValue(nil)
		records = append(records, recordbatch.Record{Timestamp: at.UnixMilli(), Offset: int64(len(records)), Key: key, Value: value})
		bytes += len(key) + len(value) + 16
		if i+1 < len(notes) && bytes < journalBatchBytes {
			continue
		}
		if err := n.produce(ctx, records); err != nil {
			if !errors.Is(context.Cause(ctx), context.Canceled) { // a stop is no trouble
				n.fail(err)
			}
			return err
		}
		n.flow.metrics.notes.WithLabelValues(n.alias, n.topic).Add(float64(len(records)))
		records, bytes = nil, 0
	}
	n.fail(nil)
	return nil
}

func (n *notebook) produce(ctx context.Context, records []recordbatch.Record) error {
	batch, err := recordbatch.Encode(records, recordbatch.None)
	if err != nil {
		return fmt.Errorf("encode %s: %w", n.topic, err)
	}
	view := n.view()
	info := view.ByName[n.topic]
	if !info.Exists() {
		return n.create(ctx)
	}
	partition := offsets.TopicPartition{Topic: n.topic}
	leader := view.Leader(partition)
	if leader < 0 {
		n.flow.refreshTargetSoon()
		return fmt.Errorf("topic %s on cluster %s has no leader", n.topic, n.alias)
	}
	if n.flow.throttles.Left(n.side, leader) > notebookTimeout {
		return errThrottled
	}
	request := wire.NewProduceRequest(notebookTimeout)
	request.Add(partition, info.ID, batch)
	answer, err := n.client.Broker(int(leader)).Request(ctx, request.ProduceRequest)
	if errors.Is(err, context.DeadlineExceeded) && n.flow.throttles.Recent(n.side) {
		return errThrottled // it stood behind a write of the journal, which has to wait
	}
	if err != nil {
		n.flow.refreshTargetSoon()
		return fmt.Errorf("write to %s on cluster %s: %w", n.topic, n.alias, err)
	}
	answered := wire.IndexProduce(answer.(*kmsg.ProduceResponse)).Of(partition, info.ID)
	if answered == nil {
		return fmt.Errorf("write to %s on cluster %s: the answer does not name the partition", n.topic, n.alias)
	}
	err = kerr.ErrorForCode(answered.ErrorCode)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("write to %s on cluster %s: %w; grant WRITE on it to milena's user", n.topic, n.alias, err)
	}
	n.flow.refreshTargetSoon()
	return fmt.Errorf("write to %s on cluster %s: %w", n.topic, n.alias, err)
}

// errNotebookMade says that the topic exists now and can be written to as soon as the next look at the cluster has found it.
var errNotebookMade = errors.New("the topic was made just now")

// errThrottled says that a quota asks for a longer wait than a write may take. Giving up on one that waits closes its connection, and a new
// connection would get around the quota.
var errThrottled = errors.New("a quota of the broker makes it wait")

// create makes the topic as MirrorMaker 2 does: one partition, compacted, nothing else set. One that exists is taken as it is.
func (n *notebook) create(ctx context.Context) error {
	n.mu.Lock()
	made := !n.missing.IsZero() && time.Since(n.missing) < 2*time.Second
	n.mu.Unlock()
	if made {
		return errNotebookMade
	}
	compact := "compact"
	response, err := kadm.NewClient(n.client).CreateTopic(ctx, 1, cmp.Or(n.flow.config.ReplicationFactor, -1), map[string]*string{"cleanup.policy": &compact}, n.topic)
	if err == nil {
		err = response.Err
	}
	switch {
	case err == nil:
		n.flow.log.Info("topic made", "cluster", n.alias, "topic", n.topic)
	case errors.Is(err, kerr.TopicAlreadyExists):
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		// Asked for again with each heartbeat: rights may be given.
		return fmt.Errorf("create topic %s on cluster %s: %w; grant CREATE and WRITE on it to milena's user, or make it (1 partition, cleanup.policy=compact)", n.topic, n.alias, err)
	default:
		return fmt.Errorf("create topic %s on cluster %s: %w", n.topic, n.alias, err)
	}
	n.flow.refreshTargetSoon()
	n.mu.Lock()
	n.missing = time.Now()
	n.mu.Unlock()
	return errNotebookMade
}

// fail notes how the last write ended. A trouble that lasts is logged when it begins and when it ends: rights that nobody means to give are
// no news every half minute.
func (n *notebook) fail(err error) {
	if errors.Is(err, errNotebookMade) || errors.Is(err, errThrottled) {
		return
	}
	n.mu.Lock()
	before := n.trouble
	n.trouble = ""
	if err != nil {
		n.trouble = err.Error()
	}
	n.mu.Unlock()
	switch {
	case err != nil:
		n.flow.metrics.noteErrors.WithLabelValues(n.alias, n.topic).Inc()
		if before == "" {
			n.flow.log.Warn("bookkeeping is not written", "cluster", n.alias, "topic", n.topic, "err", err)
		}
	case before != "":
		n.flow.log.Info("bookkeeping is written again", "cluster", n.alias, "topic", n.topic)
	}
}

func (n *notebook) problem() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trouble
}
