package replicator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/match"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// The model runs the real partition, outbox, progress, tail and settle against a simulated target, and tries every order of what can happen: the
// steps of the owner, requests that arrive late or never, markers that are written late, lost answers, and crashes. One world is one state of
// everything. A path is a list of choices; each state is reached again by replaying its path, so that nothing has to be copied.
type world struct {
	t          testing.TB
	bounds     bounds
	partitions [modelPartitions]simPartition
	journal    [modelPartitions]simJournal
	journalLog fencedLog // the producer state of the journal partition

	epoch   int16  // of the transaction coordinator
	markers []int  // that it has not written yet: a partition, or modelPartitions for the journal
	adding  []int  // partitions of the transaction that is open
	owner   *owner // nil between a crash and the next start
	lives   int
	crashes int
	doubts  int
}

const (
	modelPartitions = 2
	modelBatches    = 3
	modelProducer   = 7
)

type bounds struct{ crashes, doubts int }

// fencedLog is what a broker remembers of a producer.
type fencedLog struct {
	epoch    int16
	sequence int32
}

// accepts reports whether a broker appends a batch, and what it remembers then.
func (l *fencedLog) accepts(epoch int16, sequence, count int32) bool {
	switch {
	case epoch < l.epoch, epoch > l.epoch && sequence != 0, epoch == l.epoch && sequence != l.sequence:
		return false
	}
	l.epoch, l.sequence = epoch, sequence+count
	return true
}

// simPartition is a target partition, and the requests to it that have not arrived.
type simPartition struct {
	fencedLog
	log     []recordbatch.Batch
	end     int64
	network []*simRequest
}

type simRequest struct {
	batch    []byte
	life     int // of its owner
	answered bool
	base     int64
	ok       bool
	stale    bool // the owner no longer waits for the answer
}

// simJournal is what the journal has of a partition.
type simJournal struct {
	state  *offsets.PartitionState
	chunks map[int64]*offsets.Chunk
}

// owner is one process.
type owner struct {
	flow       *Flow
	recovery   *recovery // the takeover that runs, or ran last
	epoch      int16
	marker     int16 // epoch of the marker
	step       ownerStep
	partitions [modelPartitions]*partition
	sent       [modelPartitions]*simRequest
}

type ownerStep int

const (
	stepFence   ownerStep = iota // InitProducerId
	stepAdd                      // AddPartitionsToTxn
	stepEnd                      // EndTxn
	stepJournal                  // the journal is read up to the marker
	stepRun
)

// modelSource are the batches of each source partition, with a hole between two of them. All records have the same timestamp.
var modelSource = makeModelSource()

func makeModelSource() []recordbatch.Batch {
	var batches []recordbatch.Batch
	offset := int64(0)
	for i, n := range []int{1, 2, 1}[:modelBatches] {
		if i == 1 {
			offset++
		}
		var records []recordbatch.Record
		for k := range n {
			records = append(records, recordbatch.Record{Timestamp: 1000, Value: fmt.Appendf(nil, "%d-%d", i, k)})
		}
		encoded, err := recordbatch.Encode(records, recordbatch.None)
		if err != nil {
			panic(err)
		}
		batches = append(batches, parseAt(encoded, offset))
		offset += int64(n)
	}
	return batches
}

// parseAt returns a batch as it stands in a log.
func parseAt(bytes []byte, offset int64) recordbatch.Batch {
	at := slices.Clone(bytes)
	binary.BigEndian.PutUint64(at, uint64(offset))
	h, err := recordbatch.Parse(at)
	if err != nil {
		panic(err)
	}
	return recordbatch.Batch{Header: h, Bytes: at}
}

// simSource is a source partition, for replay.
type simSource struct{ batches []recordbatch.Batch }

func (s simSource) fetch(_ context.Context, offset int64, _ int32) (*kmsg.FetchResponseTopicPartition, error) {
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.HighWatermark = s.end()
	for _, b := range s.batches {
		if b.NextOffset() > offset {
			rp.RecordBatches = append(rp.RecordBatches, b.Bytes...)
		}
	}
	return &rp, nil
}

func (s simSource) end() int64 { return s.batches[len(s.batches)-1].NextOffset() }

func (s simSource) readableEnd(rp *kmsg.FetchResponseTopicPartition) int64 { return rp.HighWatermark }

func (s simSource) cleaned(context.Context) (replaySource, int32) { return nil, -1 }

func (s simSource) rules() replayRules { return replayRules{} }

func newWorld(t testing.TB, b bounds) *world {
	t.Helper()
	w := &world{t: t, bounds: b}
	for i := range w.journal {
		m := offsets.NewMap(0, 0)
		state := &offsets.PartitionState{Topic: "t", Partition: int32(i), LeaderEpoch: -1}
		w.journal[i].state, w.journal[i].chunks = state, make(map[int64]*offsets.Chunk)
		changes, _ := m.Changed()
		for _, c := range state.Apply(changes) {
			w.journal[i].chunks[c.First] = c
		}
	}
	return w
}

// choices are what can happen next.
func (w *world) choices() []string {
	var list []string
	for _, m := range w.markers {
		list = append(list, fmt.Sprintf("marker %d", m))
	}
	for i := range w.partitions {
		for k, r := range w.partitions[i].network {
			list = append(list, fmt.Sprintf("deliver %d %d", i, k))
			if r.stale {
				list = append(list, fmt.Sprintf("drop %d %d", i, k))
			}
		}
	}
	if w.owner == nil {
		return append(list, "start")
	}
	list = append(list, w.owner.choices(w)...)
	if w.crashes < w.bounds.crashes {
		list = append(list, "crash")
	}
	return list
}

func (o *owner) choices(w *world) []string {
	switch o.step {
	case stepFence:
		if len(w.markers) > 0 {
			return nil // CONCURRENT_TRANSACTIONS
		}
		return []string{"fence"}
	case stepAdd:
		return []string{"add"}
	case stepEnd:
		return []string{"end"}
	case stepJournal:
		if slices.Contains(w.markers, modelPartitions) {
			return nil
		}
		return []string{"read"}
	case stepRun:
	}
	var list []string
	changed, waits, recovering := false, false, false
	for i, p := range o.partitions {
		changed = changed || p.progress.hasChanges()
		waits = waits || p.state == waiting
		recovering = recovering || p.state == recoveringState
		switch {
		case p.state == recoveringState && !slices.Contains(w.markers, i):
			list = append(list, fmt.Sprintf("settle %d", i))
		case p.state == replicating && o.sent[i] == nil && p.next < modelSource[modelBatches-1].NextOffset():
			list = append(list, fmt.Sprintf("send %d", i))
		case p.state == replicating && o.sent[i] != nil:
			if o.sent[i].answered {
				list = append(list, fmt.Sprintf("answer %d", i))
			}
			if w.doubts < w.bounds.doubts {
				list = append(list, fmt.Sprintf("timeout %d", i))
			}
		}
	}
	if waits && !recovering {
		list = append(list, "takeover")
	}
	if changed {
		list = append(list, "journal")
	}
	return list
}

// recoveringState is the state of a partition that is fenced, in the words of this file, which has a field of that name.
const recoveringState = recovering

// do lets one thing happen. It returns what is wrong with the world then.
func (w *world) do(choice string) string {
	words := strings.Fields(choice)
	var at [2]int
	for i, word := range words[1:] {
		_, _ = fmt.Sscan(word, &at[i])
	}
	o := w.owner
	switch words[0] {
	case "start":
		w.start()
	case "crash":
		w.crash()
	case "fence":
		w.abortOpen()
		w.epoch++
		o.epoch, o.step = w.epoch, stepAdd
	case "add":
		w.adding, o.step = []int{modelPartitions}, stepEnd
		for i, p := range o.partitions {
			if p.state == recovering {
				w.adding = append(w.adding, i)
			}
		}
	case "end":
		w.abortOpen()
		o.marker, o.epoch, o.step = w.epoch, w.epoch, stepJournal
	case "read":
		return o.read(w)
	case "marker":
		w.writeMarker(at[0])
	case "settle":
		return o.settle(w, at[0])
	case "send":
		w.send(at[0])
	case "deliver":
		w.deliver(at[0], at[1])
	case "drop":
		network := &w.partitions[at[0]].network
		*network = slices.Delete(*network, at[1], at[1]+1)
	case "answer":
		return o.answer(at[0])
	case "timeout":
		w.doubts++
		o.sent[at[0]].stale, o.sent[at[0]] = true, nil
		o.partitions[at[0]].doubtLocked()
	case "takeover":
		o.recovery = &recovery{producerID: modelProducer}
		for _, p := range o.partitions {
			p.beginRecovery(o.recovery)
		}
		o.step = stepFence
	case "journal":
		o.journal(w)
	}
	return ""
}

func (w *world) start() {
	w.lives++
	f := &Flow{budget: newBudget(1 << 30), rules: rules{writers: soleWriter{}}}
	s := &shard{flow: f, inJournal: make(map[offsets.TopicPartition]bool)}
	s.producer.Store(modelProducer)
	w.owner = &owner{flow: f, recovery: &recovery{producerID: modelProducer}}
	for i := range w.owner.partitions {
		p := newPartition(&topicLink{source: "t", target: "a.t"}, int32(i), s, listed{})
		p.beginRecovery(w.owner.recovery)
		w.owner.partitions[i] = p
	}
}

// crash ends the process. Its requests may still arrive.
func (w *world) crash() {
	w.crashes++
	for i := range w.partitions {
		for _, r := range w.partitions[i].network {
			r.stale = true
		}
	}
	w.owner = nil
}

// abortOpen ends the open transaction with a new epoch. The markers are written later, in any order.
func (w *world) abortOpen() {
	if len(w.adding) > 0 {
		w.epoch++
		w.markers, w.adding = w.adding, nil
	}
}

func (w *world) writeMarker(of int) {
	w.markers = slices.DeleteFunc(slices.Clone(w.markers), func(m int) bool { return m == of })
	if of == modelPartitions {
		w.journalLog = fencedLog{epoch: w.epoch}
		return
	}
	p := &w.partitions[of]
	p.fencedLog = fencedLog{epoch: w.epoch}
	p.log = append(p.log, recordbatch.Batch{Header: recordbatch.Header{
		BaseOffset: p.end, Magic: 2, Attributes: 0x20, ProducerID: modelProducer, ProducerEpoch: w.epoch, Count: 1,
	}})
	p.end++
}

// read loads the journal, for partitions that this process has not restored.
func (o *owner) read(w *world) string {
	for i, p := range o.partitions {
		if p.offsets != nil {
			continue
		}
		j := w.journal[i]
		m, err := offsets.RestoreMap(j.state, j.chunks[j.state.Chunk])
		if err != nil {
			return err.Error()
		}
		p.progress.restore(m, j.state, time.Now())
		p.cursor.reset(p.acked, p.doneEpoch)
	}
	o.step = stepRun
	return ""
}

// settle is the third step of a takeover, for one partition.
func (o *owner) settle(w *world, i int) string {
	p := o.partitions[i]
	var found settlement
	var mark int64
	for _, hashes := range []bool{false, true} {
		tail := match.NewTail(p.targetEnd, p.progress.firstProducer())
		if hashes {
			tail.Hash()
		}
		var problem string
		if mark, problem = o.readTail(&w.partitions[i], p.targetEnd, tail); problem != "" {
			return fmt.Sprintf("partition %d: %s", i, problem)
		}
		var err error
		fence := fenced{marker: marker{modelProducer, o.marker}, step: 2}
		found, err = settle(context.Background(), simSource{modelSource}, tail, mark, fence, p.progress.tailKnowledge())
		if err == nil {
			break
		}
		if hashes || !errors.Is(err, match.ErrHashes) {
			return fmt.Sprintf("partition %d: %v", i, err)
		}
	}
	if err := p.progress.settle(found.segments, found.next, found.leaderEpoch); err != nil {
		return err.Error()
	}
	p.cursor.reset(p.acked, p.doneEpoch)
	if err := p.progress.moveEnd(mark + 1); err != nil {
		return err.Error()
	}
	o.recovery.producerEpoch = o.epoch
	p.continueWith(o.recovery)
	p.startReplicating(o.recovery)
	return ""
}

// readTail reads the target's log from an offset to our marker.
func (o *owner) readTail(log *simPartition, from int64, tail *match.Tail) (mark int64, problem string) {
	mark = -1
	for _, b := range log.log {
		switch {
		case b.BaseOffset < from:
		case mark >= 0:
			return 0, fmt.Sprintf("a batch at %d stands behind the marker at %d", b.BaseOffset, mark)
		case b.Attributes.Control() && b.ProducerEpoch == o.marker:
			mark = b.BaseOffset
		case b.Attributes.Control():
			tail.Pass(b.BaseOffset, b.NextOffset())
		default:
			if own, err := tail.Add(b); !own || err != nil {
				return 0, fmt.Sprintf("a batch at %d is not taken for ours: %v", b.BaseOffset, err)
			}
		}
	}
	return mark, ""
}

// send admits the next batch of the source and sends it.
func (w *world) send(i int) {
	o := w.owner
	p := o.partitions[i]
	for _, b := range modelSource {
		if b.BaseOffset >= p.next {
			p.enqueueLocked(prepared{
				batch: slices.Clone(b.Bytes), from: p.next, count: b.Count, runs: []recordbatch.Run{{Source: b.BaseOffset, Count: b.Count}},
				next: b.NextOffset(), leaderEpoch: b.LeaderEpoch, slab: newSlab(o.flow.budget, 0),
			})
			break
		}
	}
	o.sent[i] = &simRequest{batch: slices.Clone(p.outbox.stampHead()), life: w.lives}
	w.partitions[i].network = append(w.partitions[i].network, o.sent[i])
}

// deliver lets a request arrive at its broker.
func (w *world) deliver(i, k int) {
	p := &w.partitions[i]
	r := p.network[k]
	p.network = slices.Delete(slices.Clone(p.network), k, k+1)
	b := parseAt(r.batch, p.end)
	r.answered = true
	if r.ok = p.accepts(b.ProducerEpoch, b.BaseSequence, b.Count); r.ok {
		r.base = p.end
		p.log, p.end = append(p.log, b), b.NextOffset()
	}
}

// answer handles the answer to a request.
func (o *owner) answer(i int) string {
	r, p := o.sent[i], o.partitions[i]
	o.sent[i] = nil
	if !r.ok {
		return fmt.Sprintf("partition %d: the only owner is refused", i)
	}
	if r.base != p.targetEnd {
		return fmt.Sprintf("partition %d: a batch is appended at %d, not at %d", i, r.base, p.targetEnd)
	}
	if _, err := p.ackLocked(r.base, time.Time{}); err != nil {
		return err.Error()
	}
	return ""
}

// journal writes what has changed, unless a later owner has fenced the journal.
func (o *owner) journal(w *world) {
	if w.journalLog.epoch > o.epoch {
		return
	}
	for i, p := range o.partitions {
		if !p.progress.hasChanges() {
			continue
		}
		open, state, written := p.progress.changes() // no chunk of these maps is ever sealed
		if open != nil {
			copied := *open
			copied.Segments = slices.Clone(open.Segments)
			w.journal[i].chunks[open.First] = &copied
		}
		noted := *state
		w.journal[i].state = &noted
		p.progress.markJournaled(written)
	}
}

// problem returns what is wrong with the target now: a record is twice, or out of order. If no choices are left, all must be there, and the map
// exact.
func (w *world) problem(choices []string) string {
	ended := len(choices) == 0
	for i := range w.partitions {
		var want, got []string
		at := make(map[int]int64)
		for k, b := range modelSource {
			want = append(want, fmt.Sprint(k, b.Count))
		}
		for _, b := range w.partitions[i].log {
			if !b.Attributes.Control() {
				at[len(got)] = b.BaseOffset
				got = append(got, fmt.Sprint(len(got), b.Count))
			}
		}
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) || ended && len(got) < len(want) {
			return fmt.Sprintf("partition %d holds %v, want %v", i, got, want)
		}
		if !ended {
			continue
		}
		for k, b := range modelSource {
			target, exact, err := w.owner.partitions[i].offsets.Forward(b.BaseOffset)
			if before := (*offsets.BeforeStartError)(nil); err != nil && !asBefore(err, &before) || err == nil && (target != at[k] || !exact) {
				return fmt.Sprintf("partition %d: the map says that source offset %d is at %d (exact %v, %v), it is at %d", i, b.BaseOffset, target, exact, err, at[k])
			}
		}
	}
	return ""
}

func asBefore(err error, before **offsets.BeforeStartError) bool {
	b, ok := err.(*offsets.BeforeStartError) //nolint:errorlint // the map returns it as it is
	*before = b
	return ok
}

// key identifies the state of the world: what can follow depends on nothing else. Both partitions are alike, so their order says nothing.
func (w *world) key() string {
	var parts [modelPartitions]string
	for i := range w.partitions {
		parts[i] = w.partitionKey(i)
	}
	slices.Sort(parts[:])
	rest := fmt.Sprint(w.epoch, slices.Contains(w.markers, modelPartitions), slices.Contains(w.adding, modelPartitions), w.crashes, w.doubts, w.journalLog)
	if o := w.owner; o != nil {
		rest += fmt.Sprint(o.step, o.epoch, o.marker)
	}
	return rest + strings.Join(parts[:], "|")
}

func (w *world) partitionKey(i int) string {
	p := &w.partitions[i]
	b := fmt.Appendln(nil, slices.Contains(w.markers, i), slices.Contains(w.adding, i), p.fencedLog, p.end)
	for _, l := range p.log {
		b = fmt.Append(b, l.BaseOffset, l.ProducerEpoch, l.BaseSequence, l.Attributes, ";")
	}
	for _, r := range p.network {
		b = fmt.Appendf(b, "net %x %v;", r.batch[43:61], r.stale)
	}
	s := w.journal[i].state
	b = fmt.Append(b, "journal", s.End, s.Chunk)
	if s.Producer != nil {
		b = fmt.Append(b, *s.Producer)
	}
	if o := w.owner; o != nil {
		p := o.partitions[i]
		b = fmt.Append(b, "owner", p.state, p.acked, p.next, p.targetEnd, p.sequence, p.producerEpoch, p.offsets != nil && p.progress.hasChanges(),
			p.progress.producer, p.continued, len(p.unsettled))
		if r := o.sent[i]; r != nil {
			b = fmt.Append(b, "sent", r.answered, r.ok, r.base)
		}
	}
	return string(b)
}

// explorer visits every state once, and counts the schedules that lead from it to an end.
type explorer struct {
	t         testing.TB
	bounds    bounds
	schedules map[string]float64
	ends      int
}

func (e *explorer) replay(path []string) *world {
	w := newWorld(e.t, e.bounds)
	for _, choice := range path {
		if problem := w.do(choice); problem != "" {
			e.t.Fatalf("%s\nafter %s", problem, strings.Join(path, ", "))
		}
	}
	return w
}

func (e *explorer) explore(w *world, path []string) float64 {
	key := w.key()
	if n, ok := e.schedules[key]; ok {
		return n
	}
	choices := w.choices()
	if problem := w.problem(choices); problem != "" {
		e.t.Fatalf("%s\nafter %s", problem, strings.Join(path, ", "))
	}
	if len(choices) == 0 {
		e.ends++
		e.schedules[key] = 1
		return 1
	}
	sum := 0.0
	for i, choice := range choices {
		if i > 0 {
			w = e.replay(path)
		}
		next := append(slices.Clone(path), choice)
		if problem := w.do(choice); problem != "" {
			e.t.Fatalf("%s\nafter %s", problem, strings.Join(next, ", "))
		}
		sum += e.explore(w, next)
	}
	e.schedules[key] = sum
	return sum
}

// Every order of fence, marker, produce, acknowledgement, journal, lost answer and crash, for two partitions and three batches: nothing is lost,
// nothing is twice, everything is in order, and the map is exact. MILENA_MODEL=deep tries more of them, for many minutes.
func TestModelOfTakeovers(t *testing.T) {
	tests := []struct {
		bounds
		states int // less would mean that the model no longer tries everything
	}{
		{bounds{crashes: 1}, 37_000},
		{bounds{doubts: 1}, 14_000},
	}
	if os.Getenv("MILENA_MODEL") == "deep" {
		tests = append(tests, struct {
			bounds
			states int
		}{bounds{crashes: 1, doubts: 1}, 100_000})
	}
	for _, test := range tests {
		start := time.Now()
		e := &explorer{t: t, bounds: test.bounds, schedules: make(map[string]float64)}
		n := e.explore(newWorld(t, test.bounds), nil)
		t.Logf("%d crashes, %d doubts: %.3g schedules in %d states, %d ends, %.1f s", test.crashes, test.doubts, n, len(e.schedules), e.ends, time.Since(start).Seconds())
		if len(e.schedules) < test.states {
			t.Errorf("%d states, want at least %d", len(e.schedules), test.states)
		}
	}
}
