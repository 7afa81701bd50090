package replicator

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// The model runs real owners (flow, shard, recovery, partition, journal writer) against a simulated target, and tries every order of what can
// happen: the steps of each owner, requests that arrive late or never, markers that are written late, lost answers, crashes, and a second owner
// that takes over while the first one goes on. One world is one state of everything.
type world struct {
	bounds
	used    bounds
	product *modelProduct

	partitions [modelPartitions]simPartition
	journal    simJournal
	epoch      int16      // of the transaction coordinator
	adding     markersFor // the partitions of the transaction that is open
	markers    markersFor // those of the ended one that have no marker yet
	owners     []*owner   // that live: none between a crash and the next start, two after the start of a rival
}

const (
	modelPartitions = 2
	modelJournal    = modelPartitions // stands for the journal where partitions are numbered
	modelProducer   = 7
)

// markersFor are partitions of a transaction, the last one is the journal's.
type markersFor [modelPartitions + 1]bool

func (m markersFor) any() bool { return m != markersFor{} }

// bounds limit how often something happens.
type bounds struct {
	crashes int  // of an owner
	doubts  int  // requests, of one or of all partitions, whose answer is lost
	rivals  int  // owners that start while another one lives
	forgets int  // times that a broker forgets the producer of a partition for which a late batch is on its way, or one behind a refused one
	refuses int  // batches that a broker refuses alone
	claims  bool // the target has no transactions
}

// event is one thing that happens: to an owner, a partition, and the n-th of something.
type event struct {
	what         string
	owner, at, n int
	optional     bool // it need not happen: a world in which nothing else can happen has ended
}

func (e event) String() string { return fmt.Sprintf("%s %d %d %d", e.what, e.owner, e.at, e.n) }

// fencedLog is what a broker remembers of a producer.
type fencedLog struct {
	known    bool
	epoch    int16
	sequence int32
	marked   int16 // epoch of the last marker in the log, whatever the broker remembers
}

// append returns the error code for a batch of a producer. If there is none, the broker remembers the batch.
func (l *fencedLog) append(epoch int16, sequence, count int32) int16 {
	switch {
	case l.known && epoch < l.epoch:
		return kerr.InvalidProducerEpoch.Code
	case l.known && (epoch > l.epoch && sequence != 0 || epoch == l.epoch && sequence != l.sequence):
		return kerr.OutOfOrderSequenceNumber.Code
	}
	l.known, l.epoch, l.sequence = true, epoch, sequence+count
	return 0
}

func (l *fencedLog) mark(epoch int16) { *l = fencedLog{known: true, epoch: epoch, marked: epoch} }

// simPartition is a target partition, and the requests to it that have not arrived.
type simPartition struct {
	fencedLog
	log     []recordbatch.Batch
	end     int64
	copied  []int64 // target offsets of the batches of the source, but for late ones
	late    []int64 // target offsets of batches that an owner appended after it was replaced, or behind one that was refused
	refused bool    // the broker has refused a batch, and those behind it have not arrived
	network []*simRequest
}

// simRequest is a produce request for one partition.
type simRequest struct {
	sent   sentBatch
	batch  []byte
	number int // of the batch in the source
	answer

	instance  int  // that sends it, in the model of the group
	unwritten bool // it waits in that instance, and goes to the broker only if the lease holds then
}

// simJournal is the journal partition, which a log cleaner keeps short, and the writes that the owner no longer waits for.
type simJournal struct {
	fencedLog
	records []recordbatch.Record
	notes   [modelPartitions]string // describes what the records say of a partition
	network []*simWrite
}

// simWrite is a write to the journal.
type simWrite struct {
	writer   *journalWriter
	records  []recordbatch.Record
	epoch    int16
	sequence int32
	notes    [modelPartitions]string
}

// answer is the answer to a request.
type answer struct {
	stale    bool // the owner no longer waits for it, or lives no more
	answered bool
	code     int16
	base     int64
}

// modelSource are the batches of each source partition, with a hole between two of them. All records have the same timestamp.
var modelSource = makeModelSource()

func makeModelSource() []recordbatch.Batch {
	var batches []recordbatch.Batch
	offset := int64(0)
	for i, n := range []int{1, 2, 1} {
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

// newWorld returns a world without an owner, whose journal has the empty maps of both partitions.
func newWorld(b bounds, product *modelProduct) *world {
	w := &world{bounds: b, product: product}
	w.journal.put(product.first.records, product.first.notes)
	return w
}

// choices are the events that can be next. If an owner was replaced and all markers of its successor are written, what it still does concerns
// nobody else, so that is done first.
func (w *world) choices() (list []event) {
	if list = w.choicesOfReplaced(); len(list) > 0 {
		return list
	}
	for of, pending := range w.markers {
		if pending {
			list = append(list, event{what: "marker", at: of})
		}
	}
	for i := range w.partitions {
		p := &w.partitions[i]
		late := false
		for n, r := range p.network {
			if p.isBehindAnother(n) {
				continue
			}
			list = append(list, event{what: "deliver", at: i, n: n, optional: r.stale})
			if w.used.refuses < w.refuses && r.sent.epoch() == p.epoch {
				list = append(list, event{what: "refuse", at: i, n: n, optional: true})
			}
			late = late || r.sent.epoch() < p.marked
		}
		late = late || p.refused
		if late && p.known && w.used.forgets < w.forgets {
			list = append(list, event{what: "forget", at: i, optional: true})
		}
	}
	for n := range w.journal.network {
		list = append(list, event{what: "deliver", at: modelJournal, n: n, optional: true})
	}
	if len(w.owners) == 0 || len(w.owners) == 1 && w.used.rivals < w.rivals && (!w.claims || w.owners[0].isCopying()) {
		if !w.markers.any() { // else CONCURRENT_TRANSACTIONS
			list = append(list, event{what: "start", optional: len(w.owners) > 0})
		}
	}
	for n, o := range w.owners {
		list = append(list, o.choices(w, n)...)
		if w.used.crashes < w.crashes {
			list = append(list, event{what: "crash", owner: n, optional: true})
		}
	}
	return list
}

func (w *world) choicesOfReplaced() (list []event) {
	if len(w.owners) < 2 || !w.owners[0].claimed || w.markers.any() || w.adding.any() || w.owners[1].step != stepIdle {
		return nil
	}
	list = w.owners[0].choices(w, 0)
	if w.claims { // what it sends may land, at any time
		return slices.DeleteFunc(list, func(e event) bool { return e.what != "answer" })
	}
	for i := range w.partitions {
		for n, r := range w.partitions[i].network {
			if slices.Contains(w.owners[0].sent[i], r) && w.used.forgets == w.forgets { // else it may land
				list = append(list, event{what: "deliver", at: i, n: n})
			}
		}
	}
	return list
}

// epoch is the epoch with which a batch was sent.
func (s sentBatch) epoch() int16 { return int16(binary.BigEndian.Uint16(s.batch[51:])) }

// do lets an event happen, and then what each owner can do at any time. It returns what is wrong with the world then.
func (w *world) do(e event) string {
	var problem string
	switch e.what {
	case "marker":
		problem = w.writeMarker(e.at)
	case "deliver":
		problem = w.deliver(e.at, e.n)
	case "refuse":
		w.used.refuses++
		w.partitions[e.at].refused = true
		problem = w.refuse(e.at, e.n)
	case "forget":
		w.used.forgets++
		w.partitions[e.at].known = false
	case "start":
		if len(w.owners) > 0 {
			w.used.rivals++
		}
		w.owners = append(w.owners, w.product.newOwner())
		if !w.claims {
			w.fence(len(w.owners) - 1)
		}
	case "crash":
		w.used.crashes++
		w.end(e.owner)
	default:
		problem = w.act(w.owners[e.owner], e)
	}
	return cmp.Or(problem, w.goOn())
}

// end ends an owner: it crashes, or knows that another one has taken over. Its requests may still arrive.
func (w *world) end(n int) {
	o := w.owners[n]
	for i := range o.sent {
		for _, r := range o.sent[i] {
			r.stale = true
		}
	}
	w.owners = slices.Delete(slices.Clone(w.owners), n, n+1)
}

// abort ends the open transaction with a new epoch. The markers are written later, in any order, and nobody can begin another one until then.
func (w *world) abort() {
	w.epoch++
	w.markers, w.adding = w.adding, markersFor{}
}

func (w *world) writeMarker(of int) string {
	w.markers[of] = false
	if of == modelJournal {
		w.journal.mark(w.epoch)
		for _, o := range w.owners {
			if o.step == stepRead && o.epoch == w.epoch {
				return o.readJournal(w)
			}
		}
		return ""
	}
	p := &w.partitions[of]
	p.mark(w.epoch)
	p.log = append(p.log, recordbatch.Batch{Header: recordbatch.Header{
		BaseOffset: p.end, Magic: 2, Attributes: 0x20, ProducerID: modelProducer, ProducerEpoch: w.epoch, Count: 1,
	}})
	p.end++
	return ""
}

// isBehindAnother reports whether an earlier request of the same connection has not arrived: those of one epoch of an owner share one.
func (p *simPartition) isBehindAnother(n int) bool {
	return slices.ContainsFunc(p.network[:n], func(r *simRequest) bool {
		return r.sent.partition == p.network[n].sent.partition && r.sent.epoch() == p.network[n].sent.epoch()
	})
}

// refuse lets a request arrive at its broker, which refuses its batch for its content.
func (w *world) refuse(i, n int) string {
	p := &w.partitions[i]
	r := p.network[n]
	p.network = slices.Delete(slices.Clone(p.network), n, n+1)
	r.answered, r.code = true, kerr.CorruptMessage.Code
	if w.rivals > 0 || r.stale {
		return ""
	}
	o := w.owners[0]
	return w.answer(o, i, slices.Index(o.sent[i], r))
}

// deliver lets a request arrive at its broker.
func (w *world) deliver(i, n int) string {
	if i == modelJournal {
		r := w.journal.network[n]
		w.journal.network = slices.Delete(slices.Clone(w.journal.network), n, n+1)
		_, problem := w.journal.arrive(r)
		return problem
	}
	p := &w.partitions[i]
	r := p.network[n]
	p.network = slices.Delete(slices.Clone(p.network), n, n+1)
	b := parseAt(r.batch, p.end)
	r.answered, r.code = true, p.append(b.ProducerEpoch, b.BaseSequence, b.Count)
	if r.code == 0 {
		if problem := w.append(i, r, b); problem != "" {
			return problem
		}
	}
	if w.rivals > 0 || r.stale {
		return ""
	}
	o := w.owners[0]
	return w.answer(o, i, slices.Index(o.sent[i], r)) // at once: if it is late or lost, so might the request have been
}

// append appends a batch that a broker has accepted.
func (w *world) append(i int, r *simRequest, b recordbatch.Batch) string {
	p := &w.partitions[i]
	r.base, p.end = p.end, b.NextOffset()
	p.log = append(p.log, b)
	switch {
	case b.ProducerEpoch < p.marked && (w.claims || w.used.forgets > 0), r.number > len(p.copied) && w.used.forgets > 0 && w.used.refuses > 0:
		p.late = append(p.late, r.base)
	case b.ProducerEpoch < p.marked:
		return fmt.Sprintf("partition %d: a batch with epoch %d lands behind the marker of epoch %d", i, b.ProducerEpoch, p.marked)
	case r.number != len(p.copied) || !bytes.Equal(b.Bytes[61:], modelSource[r.number].Bytes[61:]):
		return fmt.Sprintf("partition %d: batch %d of the source lands as batch %d", i, r.number, len(p.copied))
	default:
		p.copied = append(p.copied, r.base)
	}
	return ""
}

// arrive lets a write to the journal arrive at its broker. It returns the error code of the answer.
func (j *simJournal) arrive(r *simWrite) (code int16, problem string) {
	if code = j.append(r.epoch, r.sequence, int32(len(r.records))); code != 0 {
		return code, ""
	}
	if r.epoch < j.marked {
		return 0, fmt.Sprintf("a journal write with epoch %d lands behind the marker of epoch %d", r.epoch, j.marked)
	}
	j.put(r.records, r.notes)
	return 0, ""
}

func (j *simJournal) put(records []recordbatch.Record, notes [modelPartitions]string) {
	for _, r := range records {
		j.records = slices.DeleteFunc(j.records, func(old recordbatch.Record) bool { return bytes.Equal(old.Key, r.Key) })
		j.records = append(j.records, r)
	}
	for i, note := range notes {
		j.notes[i] = cmp.Or(note, j.notes[i])
	}
}

// problem returns what is wrong with a world that has ended: all must be there, unless the partition was halted for a late batch, and a late
// batch that nothing followed must be one that the next takeover notices.
func (w *world) problem(choices []event) string {
	if slices.ContainsFunc(choices, func(e event) bool { return !e.optional }) {
		return ""
	}
	o := w.owners[len(w.owners)-1]
	for i := range w.partitions {
		p, of := &w.partitions[i], o.partitions[i]
		halted := of.state == halted && len(p.late) > 0
		if !halted && len(p.copied) < len(modelSource) {
			return fmt.Sprintf("partition %d ends with %d batches, %s", i, len(p.copied), of.state)
		}
		if !halted && of.acked != modelSource[len(modelSource)-1].NextOffset() {
			return fmt.Sprintf("partition %d is acknowledged up to %d", i, of.acked)
		}
		for _, late := range p.late {
			if !halted && late < of.targetEnd {
				return fmt.Sprintf("partition %d: nobody has noticed the late batch at %d, and the copy goes on to %d", i, late, of.targetEnd)
			}
		}
	}
	return ""
}

// key identifies the state of the world: what can follow depends on nothing else. Both partitions are alike, so their order says nothing, and
// epochs are only compared.
func (w *world) key() [sha256.Size]byte {
	var parts [modelPartitions][]byte
	for i := range w.partitions {
		parts[i] = w.partitionKey(i)
	}
	slices.SortFunc(parts[:], bytes.Compare)
	k := keyWriter{w.epoch, parts[0]}
	k.add(-1)
	k.bytes = append(k.bytes, parts[1]...)
	k.add(w.used.crashes, w.used.doubts, w.used.rivals, w.used.forgets, w.used.refuses, len(w.owners))
	k.addBools(w.markers[modelJournal], w.adding[modelJournal])
	k.addLog(w.journal.fencedLog)
	for _, r := range w.journal.network {
		k.addEpoch(r.epoch)
		k.add(int(r.sequence), len(r.records))
	}
	for _, o := range w.owners {
		o.addKey(&k)
	}
	return sha256.Sum256(k.bytes)
}

func (w *world) partitionKey(i int) []byte {
	p := &w.partitions[i]
	k := keyWriter{w.epoch, make([]byte, 0, 512)}
	k.addBools(w.markers[i], w.adding[i])
	k.addLog(p.fencedLog)
	k.add(int(p.end), len(p.copied), len(p.late), len(p.log))
	k.addBools(p.refused)
	for _, b := range p.log {
		k.add(int(b.BaseOffset), int(b.Attributes), int(b.BaseSequence), int(b.Count))
		k.addEpoch(b.ProducerEpoch)
	}
	for _, r := range p.network {
		k.addRequest(r)
	}
	k.bytes = append(k.bytes, w.journal.notes[i]...)
	for _, r := range w.journal.network {
		k.bytes = append(append(k.bytes, '|'), r.notes[i]...)
	}
	for _, o := range w.owners {
		o.addPartitionKey(&k, i)
	}
	return k.bytes
}

// keyWriter writes a key. Epochs are relative to that of the coordinator.
type keyWriter struct {
	epoch int16
	bytes []byte
}

func (k *keyWriter) add(values ...int) {
	for _, v := range values {
		k.bytes = binary.AppendVarint(k.bytes, int64(v))
	}
}

func (k *keyWriter) addBools(values ...bool) {
	for _, v := range values {
		if v {
			k.add(1)
		} else {
			k.add(0)
		}
	}
}

func (k *keyWriter) addEpoch(epoch int16) { k.add(int(k.epoch - epoch)) }

func (k *keyWriter) addLog(l fencedLog) {
	k.addBools(l.known)
	k.add(int(l.sequence))
	k.addEpoch(l.epoch)
	k.addEpoch(l.marked)
}

func (k *keyWriter) addAnswer(a answer) {
	k.addBools(a.stale, a.answered)
	k.add(int(a.code), int(a.base))
}

func (k *keyWriter) addRequest(r *simRequest) {
	k.add(r.number, int(int32(binary.BigEndian.Uint32(r.batch[53:]))))
	k.addEpoch(r.sent.epoch())
	k.addAnswer(r.answer)
	k.add(r.instance)
	k.addBools(r.unwritten)
}
