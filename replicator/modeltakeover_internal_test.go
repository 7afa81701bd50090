package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
	"github.com/milena-kafka/milena/replicator/topics"
)

// owner is one process, with the real parts of a flow that owns one shard.
type owner struct {
	flow       *Flow
	shard      *shard
	recovery   *recovery // the newest takeover
	step       ownerStep // of it
	epoch      int16
	claimed    bool
	partitions [modelPartitions]*partition
	sent       [modelPartitions][]*simRequest // whose answer is not processed
}

type ownerStep int

const (
	stepFence ownerStep = iota // InitProducerId is repeated
	stepAdd                    // AddPartitionsToTxn
	stepEnd                    // EndTxn
	stepRead                   // the journal is read up to the marker
	stepIdle                   // no fence runs
)

// modelProduct is what all owners share, because it has no state that matters.
type modelProduct struct {
	flow  *Flow
	topic *topicLink
	first *simWrite // to the journal: the empty maps of both partitions
}

func newModelProduct(claims bool) *modelProduct { //nolint:revive // what the target is, not a flag
	m := newFlowMetrics(prometheus.NewRegistry())
	f := &Flow{
		log: slog.New(slog.DiscardHandler), metrics: m, budget: newBudget(1 << 30), rules: rules{writers: soleWriter{}},
		takeovers: newTakeovers(1), refreshes: newRefreshes(),
	}
	f.warnings.log = f.log
	f.current.Store(&live{})
	if claims {
		f.config.Fence = config.FenceLease
	}
	product := &modelProduct{flow: f, topic: &topicLink{source: "t", target: "a.t", metrics: m.forTopic("t", &totals{})}}
	o := product.newOwner()
	for _, p := range o.partitions {
		p.progress.setRecord(offsets.PartitionState{Topic: "t", Partition: p.number, TargetTopic: "a.t", LeaderEpoch: -1})
		p.beginMapLocked(originNew, 0, 0)
		p.progress.decideStart(0)
	}
	product.first = o.newWrite()
	return product
}

func (m *modelProduct) newOwner() *owner {
	o := &owner{flow: m.flow, shard: m.newShard(), step: stepFence}
	for i := range o.partitions {
		p := newPartition(m.topic, int32(i), o.shard, listed{})
		p.setTargetLocked(topics.Partition{Leader: 1, InSync: 1, Replicas: 1}, targetLane{}, nil)
		o.shard.add(p)
		o.partitions[i] = p
	}
	return o
}

func (m *modelProduct) newShard() *shard {
	s := &shard{flow: m.flow, number: 1, tasks: newTasks(m.flow.fail), inJournal: make(map[offsets.TopicPartition]bool), journalLimit: journalBatchBytes}
	s.setProducerIDs([]int64{modelProducer})
	s.producer.Store(modelProducer)
	s.ownership.attend() // requests are not queued: an owner fences again when it must
	return s
}

func (o *owner) choices(w *world, n int) (list []event) {
	switch {
	case o.step == stepAdd:
		list = append(list, event{what: "add", owner: n})
	case o.step == stepEnd:
		list = append(list, event{what: "end", owner: n})
	case o.step == stepRead:
	case o.step == stepFence, len(o.shard.waiting()) > 0, !o.shard.ownership.isCertain():
		if !w.markers.any() { // else CONCURRENT_TRANSACTIONS
			list = append(list, event{what: "fence", owner: n})
		}
	}
	mayLose := w.used.doubts < w.doubts
	hasChanges := func(p *partition) bool { return p.progress.hasChanges() }
	if o.step == stepIdle && o.shard.ownership.isCertain() && slices.ContainsFunc(o.partitions[:], hasChanges) {
		if w.forgets == 0 && (!w.claims || w.rivals == 0) && (o.epoch < w.epoch || w.mayRead()) { // where late batches land, the journal is as old as it can be
			list = append(list, event{what: "journal", owner: n})
		}
		if mayLose {
			list = append(list, event{what: "lose journal", owner: n, optional: true})
		}
	}
	waiting := 0
	for i, p := range o.partitions {
		if o.awaitsQuietEnd(p) {
			list = append(list, event{what: "quiet", owner: n, at: i})
		}
		for k, r := range o.sent[i] {
			if r.answered {
				list = append(list, event{what: "answer", owner: n, at: i, n: k})
			}
		}
		if p.inFlight > 0 && mayLose {
			waiting++
			list = append(list, event{what: "lose", owner: n, at: i, optional: true})
		}
	}
	if waiting == modelPartitions {
		list = append(list, event{what: "lose all", owner: n, optional: true})
	}
	return list
}

// mayRead reports whether an owner may still read the journal. If none does, what the newest owner writes there makes no difference.
func (w *world) mayRead() bool {
	return w.used.crashes < w.crashes || w.used.rivals < w.rivals ||
		slices.ContainsFunc(w.owners, func(o *owner) bool { return !o.shard.ownership.isOwned() })
}

// act lets one owner do something.
func (w *world) act(o *owner, e event) string {
	replaced := o.claimed && o.epoch != w.epoch || o.step > stepFence && o.step < stepRead && o.epoch != w.epoch
	switch e.what {
	case "fence", "add", "end":
		if replaced { // PRODUCER_FENCED: the flow ends
			w.end(e.owner)
			return ""
		}
	}
	switch e.what {
	case "fence":
		if w.claims {
			return w.claim(o)
		}
		w.fence(e.owner)
	case "quiet":
		return w.readToQuietEnd(o, e.at)
	case "add":
		w.adding, o.step = markersFor{modelJournal: true}, stepEnd
		for _, p := range o.recovery.known {
			w.adding[p.number] = true
		}
	case "end":
		w.abort()
		return o.fenced(w)
	case "answer":
		return w.answer(o, e.at, e.n)
	case "lose":
		w.lose(o, e.at)
	case "lose all":
		w.lose(o, 0, 1)
	case "journal":
		return w.writeJournal(o)
	case "lose journal":
		w.used.doubts++
		r := o.newWrite()
		w.journal.network = append(slices.Clone(w.journal.network), r)
		r.writer.failInDoubt(context.DeadlineExceeded)
		r.writer.end()
	}
	return ""
}

// fence sends InitProducerId: if a transaction is open, that of an owner that was replaced or has crashed, it is aborted first.
func (w *world) fence(n int) {
	o := w.owners[n]
	if w.adding.any() {
		w.abort()
		o.step = stepFence
		return
	}
	o.recovery = o.flow.newRecovery(o.shard)
	w.epoch++
	o.epoch, o.step = w.epoch, stepAdd
	o.recovery.mark = marker{modelProducer, w.epoch}
}

// fenced continues after EndTxn.
func (o *owner) fenced(w *world) string {
	s, r := o.shard, o.recovery
	o.epoch, o.claimed = w.epoch, true
	r.producerID, r.producerEpoch = modelProducer, w.epoch
	s.sequence, s.fencer.producerID, s.fencer.epoch, s.fencer.claimed = 0, modelProducer, w.epoch, true
	s.ownership.refenced()
	if r.reload {
		o.step = stepRead
		return ""
	}
	return o.recover()
}

// readJournal reads the journal, up to the marker that was just written.
func (o *owner) readJournal(w *world) string {
	var found offsets.Restorer
	for _, r := range w.journal.records {
		if err := o.shard.loadRecord(&found, r); err != nil {
			return err.Error()
		}
	}
	for tp := range found.Partitions() {
		o.shard.markInJournal(tp)
	}
	o.recovery.loaded, o.recovery.reload = found.Partitions(), false
	return o.recover()
}

// recover begins what follows the fence.
func (o *owner) recover() string {
	o.shard.ownership.own()
	o.step = stepIdle
	for _, p := range o.recovery.partitions() {
		p.beginRecovery(o.recovery)
		if err := o.recovery.restore(p); err != nil {
			return err.Error()
		}
	}
	return ""
}

// goOn lets every owner do what makes no difference when it is done: settle the partitions whose log it can read up to its marker, because
// nothing is written there any more, and send the next batches, because they may arrive at any time.
func (w *world) goOn() string {
	for _, o := range w.owners {
		for i, p := range o.partitions {
			if p.state == recovering && !o.awaitsQuietEnd(p) {
				if problem := o.settle(&w.partitions[i], p); problem != "" {
					return fmt.Sprintf("partition %d: %s", i, problem)
				}
			}
			for p.state == replicating && (p.inFlight == 0 || p.confirmed && p.refused == nil) && p.next < modelSource[len(modelSource)-1].NextOffset() {
				w.send(o, i)
			}
		}
	}
	return ""
}

// settle is the third step of a takeover, for one partition.
func (o *owner) settle(log *simPartition, p *partition) string {
	r, ctx := p.recovery, context.Background()
	t := o.readTail(log, p, false)
	switch {
	case t == nil: // a fresh partition
		return o.start(log, p)
	case t.err != nil:
		return t.err.Error()
	case !t.done, !r.allowsForeign(t):
		return ""
	}
	found, err := settle(ctx, simSource{modelSource}, t.own, t.markerOffset(), r.fenceStep(t), p.progress.tailKnowledge())
	if errors.Is(err, match.ErrHashes) {
		t = o.readTail(log, p, true)
		found, err = settle(ctx, simSource{modelSource}, t.own, t.markerOffset(), r.fenceStep(t), p.progress.tailKnowledge())
	}
	var doubt *unsettledError
	if errors.As(err, &doubt) && len(log.late) > 0 && !r.acceptDoubt(p, doubt) {
		return "" // halted
	}
	if err != nil {
		return err.Error()
	}
	if err := p.progress.settle(found.segments, found.next, found.leaderEpoch); err != nil {
		return err.Error()
	}
	p.cursor.reset(p.acked, p.doneEpoch)
	if err := r.completeAt(p, max(t.end, t.from)); err != nil {
		return err.Error()
	}
	return o.start(log, p)
}

// readTail reads the log of the target from the end of the copy to our marker, if that is written.
func (o *owner) readTail(log *simPartition, p *partition, hashes bool) *copyTail { //nolint:revive // not a flag: the second reading
	until := p.recovery.tailEnd()
	if slices.Contains(p.recovery.fresh, p) {
		until = p.targetLast
	}
	t := p.recovery.tailOf(p, until)
	if t == nil {
		return nil
	}
	if hashes {
		t.own.Hash()
	}
	for _, b := range log.log {
		if t.addBatch(b, nil); t.isFinished() {
			break
		}
	}
	if until == toQuiet {
		t.done, t.end, t.sealed, t.quiet.since = true, max(t.next, t.from), t.mark.epoch, modelTime
	}
	return t
}

// start starts a partition that is ready.
func (o *owner) start(log *simPartition, p *partition) string {
	r := p.recovery
	for _, ready := range r.takeReady() {
		ready.continueWith(r)
		ready.startReplicating(r)
	}
	return mapProblem(log, p)
}

// mapProblem compares the map of a partition with the log of its copy.
func mapProblem(log *simPartition, p *partition) string {
	for k, b := range modelSource {
		if b.NextOffset() > p.acked {
			break
		}
		if k >= len(log.copied) {
			return fmt.Sprintf("source offset %d is acknowledged and not there", b.BaseOffset)
		}
		target, exact, err := p.offsets.Forward(b.BaseOffset)
		if before := (*offsets.BeforeStartError)(nil); errors.As(err, &before) {
			continue
		}
		if err != nil || target != log.copied[k] || !exact {
			return fmt.Sprintf("the map says that source offset %d is at %d (exact %v, %v), it is at %d", b.BaseOffset, target, exact, err, log.copied[k])
		}
	}
	return ""
}

// send admits the next batch of the source and sends it.
func (w *world) send(o *owner, i int) {
	p := o.partitions[i]
	n := slices.IndexFunc(modelSource, func(b recordbatch.Batch) bool { return b.BaseOffset >= p.next })
	b := modelSource[n]
	p.enqueueLocked(prepared{
		batch: slices.Clone(b.Bytes), from: p.next, count: b.Count, runs: []recordbatch.Run{{Source: b.BaseOffset, Count: b.Count}},
		next: b.NextOffset(), leaderEpoch: b.LeaderEpoch, slab: newSlab(o.flow.budget, 0, nil),
	})
	sent, _, _ := (&targetBroker{flow: o.flow}).nextBatch(p)
	r := &simRequest{sent: sent, batch: slices.Clone(sent.batch), number: n}
	o.sent[i] = append(slices.Clone(o.sent[i]), r)
	w.partitions[i].network = append(slices.Clone(w.partitions[i].network), r)
}

// modelTime is later than anything that the model sends, so that no pause seems to lie before it.
var modelTime = time.Now().Add(24 * time.Hour)

// answer handles the answer to a request.
func (w *world) answer(o *owner, i, n int) string {
	r := o.sent[i][n]
	o.sent[i] = slices.Delete(slices.Clone(o.sent[i]), n, n+1)
	if r.code != 0 && r.sent.generation == o.partitions[i].generation && w.used.rivals+w.used.forgets+w.used.refuses == 0 {
		return fmt.Sprintf("partition %d: the only owner is refused", i)
	}
	rp := kmsg.NewProduceResponseTopicPartition()
	rp.ErrorCode, rp.BaseOffset = r.code, r.base
	if err := o.flow.handleAnswer(r.sent, &rp, modelTime); err != nil {
		return fmt.Sprintf("partition %d: %v", i, err)
	}
	if w.claims && o.epoch < w.epoch {
		return "" // its map has its late batches, and it cannot journal that any more
	}
	return mapProblem(&w.partitions[i], o.partitions[i])
}

// lose loses the answers to the requests in flight for some partitions, which may be lost themselves or arrive later.
func (w *world) lose(o *owner, partitions ...int) {
	w.used.doubts++
	var list []sentBatch
	for _, i := range partitions {
		for _, r := range o.sent[i] {
			r.stale = true
			list = append(list, r.sent)
		}
		o.sent[i] = nil
	}
	o.flow.doubtAll(list)
}

// newWrite returns a write to the journal of what has changed.
func (o *owner) newWrite() *simWrite {
	r := &simWrite{writer: newJournalWriter(o.shard, o.shard.takeChanged()), epoch: o.epoch, sequence: o.shard.sequence}
	for i, p := range o.partitions {
		if p.progress.hasChanges() {
			if !slices.Contains(r.writer.all, p) {
				panic("the shard does not know of a partition with something to journal")
			}
			r.notes[i] = fmt.Sprint(p.acked, p.targetEnd, p.offsets.Len(), p.producer.known, p.producer.Sequence)
		}
	}
	for i, e := range r.writer.next() {
		r.records = append(r.records, recordbatch.Record{Offset: int64(i), Key: e.key, Value: e.value})
	}
	return r
}

// writeJournal lets a write to the journal be sent, arrive and be answered. It makes no difference how long it is on its way: what is written is
// that of an earlier moment, and there the write might have arrived as well.
func (w *world) writeJournal(o *owner) string {
	r := o.newWrite()
	rp := kmsg.NewProduceResponseTopicPartition()
	var problem string
	rp.ErrorCode, problem = w.journal.arrive(r)
	r.writer.settle(&rp)
	r.writer.end()
	return problem
}
