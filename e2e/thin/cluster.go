package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is the state of one cluster, which all its brokers share.
type cluster struct {
	id    string
	nodes []node

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
	topic    *topic
	number   int32
	leader   int32
	end      int64
	batches  []stored
	sessions map[*session]bool // that have it
}

// stored is a batch of the log.
type stored struct {
	next  int64 // the offset behind it
	bytes []byte
}

func newCluster(id string) *cluster {
	return &cluster{
		id: id, topics: make(map[string]*topic), byID: make(map[[16]byte]*topic), sessions: make(map[int32]*session),
		ids: make(map[string]*transactional),
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
		t.partitions = append(t.partitions, &partition{topic: t, number: int32(n), leader: leader})
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

// append appends a batch of records, and returns the offset of the first.
func (c *cluster) append(p *partition, batch []byte, records int64) (base int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.appendLocked(p, batch, records)
}

func (c *cluster) appendLocked(p *partition, batch []byte, records int64) (base int64) {
	base = p.end
	p.end += records
	binary.BigEndian.PutUint64(batch, uint64(base))
	binary.BigEndian.PutUint32(batch[12:], 0) // leader epoch, which the CRC does not cover
	p.batches = append(p.batches, stored{p.end, batch})
	for s := range p.sessions {
		s.changed(p)
	}
	return base
}

// read returns the batches from an offset on, up to a number of bytes, but one at least.
func (p *partition) read(offset int64, limit int) (bytes []byte) {
	first, _ := slices.BinarySearchFunc(p.batches, offset, func(b stored, offset int64) int { return cmp.Compare(b.next, offset+1) })
	for _, b := range p.batches[first:] {
		if len(bytes) > 0 && len(bytes)+len(b.bytes) > limit {
			break
		}
		bytes = append(bytes, b.bytes...)
	}
	return bytes
}

// recordBatch returns a batch with one record that has this value.
func recordBatch(value []byte) []byte {
	return encode(kmsg.RecordBatch{ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1}, []byte("key"), value)
}

// marker returns the batch that ends a transaction as aborted.
func marker(id int64, epoch int16) []byte {
	const transactional, control = 1 << 4, 1 << 5
	return encode(kmsg.RecordBatch{ProducerID: id, ProducerEpoch: epoch, FirstSequence: -1, Attributes: transactional | control}, []byte{0, 0, 0, 0}, make([]byte, 6))
}

func encode(b kmsg.RecordBatch, key, value []byte) []byte {
	record := kmsg.NewRecord()
	record.Key, record.Value = key, value
	record.Length = int32(len(record.AppendTo(nil)) - 1) // without the length itself, which is one byte while it is 0
	b.PartitionLeaderEpoch, b.Magic, b.NumRecords = -1, 2, 1
	b.FirstTimestamp = time.Now().UnixMilli()
	b.MaxTimestamp = b.FirstTimestamp
	b.Records = record.AppendTo(nil)
	bytes := b.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	binary.BigEndian.PutUint32(bytes[17:], crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli)))
	return bytes
}
