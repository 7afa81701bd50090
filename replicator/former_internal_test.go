package replicator

import (
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// The target never got a batch and wrote what was sent behind it. Before a takeover saw that, the source topic was deleted and created again. The new
// topic is copied as policy says, and the ledger says what the copy of the old one lacks, also if the first takeover fails.
func TestAGapInTheCopyOfADeletedTopicIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		sequences []int32
		gaps      int
	}{
		"with a gap":    {[]int32{5, 8}, 1},
		"without a gap": {[]int32{5, 6}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := testFlow(t)
			f.config.Anomalies = map[string]string{"recreated": "restart"}
			anomalies, err := policy.NewAnomalies(f.config)
			if err != nil {
				t.Fatal(err)
			}
			f.current.Store(&live{Flow: f.config, anomalies: anomalies})
			s := f.held.get(0)
			link := &topicLink{source: "orders", target: "a.orders", ids: topicIDs{[16]byte{3}, [16]byte{2}}, metrics: f.metrics.forTopic("orders", &f.totals)}
			p := newPartition(link, 0, s, listed{sourceLast: 4, targetLast: 22})
			s.add(p)
			s.setProducerIDs([]int64{modelProducer})
			old := progress{}
			old.setRecord(offsets.PartitionState{Topic: "orders", TargetTopic: "a.orders", SourceTopicID: [16]byte{1}, TargetTopicID: [16]byte{2}, LeaderEpoch: -1})
			old.begin(originJournal, 10, 20)
			old.decideStart(20)
			old.producer = producer{known: true, Producer: offsets.Producer{ID: modelProducer, Epoch: 4, Sequence: 5}}
			open, state, _ := old.changes()
			journal := map[offsets.TopicPartition]*offsets.Restored{p.source(): {State: state, Open: open, Written: time.Now().UnixMilli()}}
			for attempt := range 2 {
				r := &recovery{flow: f, shard: s, known: []*partition{p}, loaded: journal, mark: marker{modelProducer, int16(6 + attempt)}}
				p.beginRecovery(r)
				if err := r.restore(p); err != nil {
					t.Fatal(err)
				}
				tail := r.tailOf(p, toMarker)
				if attempt == 0 {
					p.cancelRecovery(r)
					continue
				}
				offset := int64(20)
				for i, b := range batchesOf(-1, "a", "b") {
					recordbatch.Rewrite(b.Bytes, modelProducer, 4, test.sequences[i])
					tail.addBatch(parseAt(b.Bytes, offset), nil)
					offset++
				}
				for _, epoch := range []int16{6, 7} {
					tail.addBatch(recordbatch.Batch{Header: recordbatch.Header{
						BaseOffset: offset, Magic: 2, Attributes: 0x20, ProducerID: modelProducer, ProducerEpoch: epoch, Count: 1,
					}}, nil)
					offset++
				}
				if err := r.finishPartition(t.Context(), tail); err != nil {
					t.Fatal(err)
				}
				if len(r.ready) != 1 || p.acked != 0 || p.targetEnd != 24 {
					t.Errorf("%d partitions are ready, the copy continues with source offset %d at target offset %d", len(r.ready), p.acked, p.targetEnd)
				}
			}
			var told []offsets.Gap
			for _, gap := range p.record.Gaps {
				if gap.Kind == string(policy.Unmatched) {
					told = append(told, gap)
				}
			}
			if len(told) != test.gaps {
				t.Fatalf("the ledger has %+v", p.record.Gaps)
			}
			for _, gap := range told {
				if gap.From != 10 || gap.To != 10 || gap.Action != string(policy.Skip) || !strings.Contains(gap.Detail, "target offset 21") || !strings.Contains(gap.Detail, "missing: 2") {
					t.Errorf("the ledger has %+v", gap)
				}
			}
		})
	}
}
