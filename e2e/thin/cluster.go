package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is the state of one cluster, which all its brokers share.
type cluster struct {
	id     string
	nodes  []node
	groups *coordinator
	watch  *watch
	keep   int64 // bytes that a partition keeps, 0 for all

	mu        sync.Mutex
	topics    map[string]*topic
	byID      map[[16]byte]*topic
	sessions  map[int32]*session
	producers int64 // ids given out
	ids       map[string]*transactional
}

// node is a broker.
type node struct {
	host string
	port int32
}

// topic is a topic. It is never deleted.
type topic struct {
	name       string
	id         [16]byte
	configs    map[string]string // that it was created with
	partitions []*partition
}

// partition is a log. Its leader never changes.
type partition struct {
	topic     *topic
	number    int32
	leader    int32
	start     int64
	end       int64
	batches   []stored
	size      int64               // of all batches
	sessions  map[*session]bool   // that have it
	producers map[int64]*producer // by producer id
	track     *track              // of this partition of the source, or of the one that it is a copy of
}

// stored is a batch of the log.
type stored struct {
	next  int64  // the offset behind it
	bytes []byte // maybe shared, so its base offset is set when it is read
}

func newCluster(id string) *cluster {
	return &cluster{
		id: id, topics: make(map[string]*topic), byID: make(map[[16]byte]*topic), sessions: make(map[int32]*session),
		ids: make(map[string]*transactional), groups: newCoordinator(),
	}
}

// create creates a topic, or adds the partitions that it lacks.
func (c *cluster) create(name string, partitions int, configs map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	if t == nil {
		sum := sha256.Sum256([]byte(c.id + " " + name))
		t = &topic{name: name, id: [16]byte(sum[:16]), configs: configs}
		c.topics[name], c.byID[t.id] = t, t
	}
	for n := len(t.partitions); n < partitions; n++ {
		leader := int32(0)
		if len(c.nodes) > 0 {
			leader = int32((int(t.id[0]) + n) % len(c.nodes))
		}
		t.partitions = append(t.partitions, &partition{topic: t, number: int32(n), leader: leader, track: c.newTrack(name, n)})
	}
}

// sorted returns the topics by name.
func (c *cluster) sorted() []*topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.topics), func(a, b *topic) int { return cmp.Compare(a.name, b.name) })
}

// find returns a partition by the name of its topic or by its id, nil if there is none. The cluster's lock is held.
func (c *cluster) find(name string, id [16]byte, number int32) *partition {
	t := c.topics[name]
	if name == "" {
		t = c.byID[id]
	}
	if t == nil || int(number) >= len(t.partitions) {
		return nil
	}
	return t.partitions[number]
}

// newTrack returns the track of a new partition, nil on the target.
func (c *cluster) newTrack(topic string, number int) *track {
	if c.watch == nil || c.watch.source != c {
		return nil
	}
	return &track{watch: c.watch, name: fmt.Sprintf("%s/%d", topic, number)}
}

// trackOfCopy returns the track of the partition of the source that this one is a copy of, nil if there is none.
func (p *partition) trackOfCopy(source *cluster) *track {
	if p.track == nil && !p.topic.isJournal() {
		source.mu.Lock()
		defer source.mu.Unlock()
		name := p.topic.name
		if original := source.find(name[strings.LastIndexByte(name, '.')+1:], [16]byte{}, p.number); original != nil {
			p.track = original.track
		}
	}
	return p.track
}

func (t *topic) isJournal() bool { return strings.HasPrefix(t.name, "milena.") }

// appendLocked appends a batch of records, and returns the offset of the first. The batch must not change any more. The cluster's lock is held.
func (c *cluster) appendLocked(p *partition, batch []byte, records int64) (base int64) {
	base = p.end
	p.end += records
	p.batches = append(p.batches, stored{p.end, batch})
	p.size += int64(len(batch))
	if c.keep > 0 && p.size > 2*c.keep && !p.topic.isJournal() {
		p.trim(c.keep)
	}
	for s := range p.sessions {
		s.changed(p)
	}
	return base
}

// trim deletes the oldest batches until at most so many bytes are left.
func (p *partition) trim(keep int64) {
	n := 0
	for ; n < len(p.batches)-1 && p.size > keep; n++ {
		p.size -= int64(len(p.batches[n].bytes))
		p.start = p.batches[n].next
	}
	p.batches = slices.Clone(p.batches[n:])
}

// read returns the batches from an offset on, up to a number of bytes, but one at least.
func (p *partition) read(offset int64, limit int) (bytes []byte) {
	first, _ := slices.BinarySearchFunc(p.batches, offset, func(b stored, offset int64) int { return cmp.Compare(b.next, offset+1) })
	size, end := 0, first
	for ; end < len(p.batches) && (end == first || size+len(p.batches[end].bytes) <= limit); end++ {
		size += len(p.batches[end].bytes)
	}
	bytes = make([]byte, 0, size)
	for _, b := range p.batches[first:end] {
		at := len(bytes)
		bytes = append(bytes, b.bytes...)
		binary.BigEndian.PutUint64(bytes[at:], uint64(b.next-recordsOf(b.bytes)))
		binary.BigEndian.PutUint32(bytes[at+12:], 0) // leader epoch, which the CRC does not cover
	}
	return bytes
}

// recordsOf returns how many offsets a batch takes.
func recordsOf(batch []byte) int64 {
	return int64(binary.BigEndian.Uint32(batch[lastOffsetDeltaAt:])) + 1
}

// recordsBatch returns a batch of about this size, with records of at most 1 KiB.
func recordsBatch(size int) []byte {
	const largest = 1 << 10
	var values [][]byte
	random := rand.New(rand.NewPCG(1, 2))
	for ; size > 0; size -= largest {
		value := make([]byte, min(size, largest))
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		values = append(values, value)
	}
	return encode(kmsg.RecordBatch{ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1}, []byte("key"), values...)
}

// marker returns the batch that ends a transaction as aborted.
func marker(id int64, epoch int16) []byte {
	const transactional, control = 1 << 4, 1 << 5
	return encode(kmsg.RecordBatch{ProducerID: id, ProducerEpoch: epoch, FirstSequence: -1, Attributes: transactional | control}, []byte{0, 0, 0, 0}, make([]byte, 6))
}

func encode(b kmsg.RecordBatch, key []byte, values ...[]byte) []byte {
	b.PartitionLeaderEpoch, b.Magic, b.NumRecords, b.LastOffsetDelta = -1, 2, int32(len(values)), int32(len(values)-1)
	b.FirstTimestamp = time.Now().UnixMilli()
	b.MaxTimestamp = b.FirstTimestamp
	for i, value := range values {
		record := kmsg.NewRecord()
		record.OffsetDelta, record.Key, record.Value = int32(i), key, value
		record.Length = int32(len(record.AppendTo(nil)) - 1) // without the length itself, which is one byte while it is 0
		b.Records = record.AppendTo(b.Records)
	}
	bytes := b.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	binary.BigEndian.PutUint32(bytes[17:], crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli)))
	return bytes
}
