package offsets

import "errors"

// Restorer collects what a new owner of a shard needs from its journal partition, record by record from the start: per
// partition the newest state and its open chunk. Everything else is passed over, so its memory does not depend on the
// length of the history. The zero value is ready to use.
type Restorer struct {
	// ProducerIDs, Claim and Rest are those of the newest [ShardState].
	ProducerIDs []int64
	Claim       *Claim
	Rest        string
	// Owner is the newest owner record, nil if there is none.
	Owner *Owner
	// Horizon is the newest horizon, nil if there is none.
	Horizon *Horizon
	// Time is the timestamp of the record that is added next, if it is known.
	Time int64

	partitions map[TopicPartition]*Restored
}

// Restored is what the journal has of one partition.
type Restored struct {
	State      *PartitionState // nil: only chunks were found, or the state was deleted
	Open       *Chunk          // the open chunk of State, nil if it is missing
	Generation uint32          // above that of every chunk that was found: a new map may use it
	Written    int64           // the [Restorer.Time] of State

	newest  *Chunk // the last one that was read: the state that follows may name it as its open chunk
	first   int64  // the name of the first chunk that was read
	chunked bool   // there was one
	several bool   // there was one of another name
}

// Add takes the next record. It returns a *[VersionError] for a format of a newer milena, and a *[CorruptError] for a record
// that cannot be decoded. A chunk that cannot be decoded counts as missing; other such records are passed over.
func (r *Restorer) Add(key, value []byte) error {
	entry, err := DecodeJournal(key, value)
	if err != nil {
		var newer *VersionError
		if errors.As(err, &newer) {
			return err
		}
		if t, ok := deletes(key); ok && t.Kind == KindChunk {
			r.at(t.Topic, t.Partition).deleteChunk(t.First) // an older record of it must not be taken for the newest
		}
		return err
	}
	switch e := entry.(type) {
	case *ShardState:
		r.ProducerIDs, r.Claim, r.Rest = e.ProducerIDs, e.Claim, e.Rest
	case *PartitionState:
		restored := r.at(e.Topic, e.Partition)
		restored.setState(e)
		restored.Written = r.Time
	case *Chunk:
		r.at(e.Topic, e.Partition).setChunk(e)
	case *Tombstone:
		switch e.Kind {
		case KindPartition:
			r.at(e.Topic, e.Partition).setState(nil)
		case KindChunk:
			r.at(e.Topic, e.Partition).deleteChunk(e.First)
		case KindShard, KindOwner, KindGroup, KindLineage, KindHorizon:
		}
	case *Owner:
		r.Owner = e
	case *Horizon:
		r.Horizon = e
	case *GroupPositions, *Lineage: // package groups of the replicator reads them itself
	}
	return nil
}

// deletes returns the tombstone with this key.
func deletes(key []byte) (*Tombstone, bool) {
	entry, err := DecodeJournal(key, nil)
	t, ok := entry.(*Tombstone)
	return t, err == nil && ok
}

// Partitions returns what was found, by source partition. Chunks of maps that were never journaled may be all there is of one.
func (r *Restorer) Partitions() map[TopicPartition]*Restored { return r.partitions }

// Chunks returns how many partitions have a chunk, and whether any may have several. If none has, the journal has no chunk that a [Pruner] would find.
func (r *Restorer) Chunks() (partitions int, several bool) {
	for _, p := range r.partitions {
		if p.chunked {
			partitions++
		}
		several = several || p.several
	}
	return partitions, several
}

func (r *Restorer) at(topic string, partition int32) *Restored {
	tp := TopicPartition{Topic: topic, Partition: partition}
	if r.partitions == nil {
		r.partitions = make(map[TopicPartition]*Restored)
	}
	if r.partitions[tp] == nil {
		r.partitions[tp] = &Restored{}
	}
	return r.partitions[tp]
}

// setState takes a newer state. Its open chunk is one that precedes it, and usually the last one before it.
func (p *Restored) setState(s *PartitionState) {
	before := p.Open
	p.State, p.Open = s, nil
	for _, c := range [...]*Chunk{before, p.newest} {
		if s.has(c) {
			p.Open = c
		}
	}
}

// setChunk takes a newer chunk. It may be the open one of the state, written again ahead of the next state.
func (p *Restored) setChunk(c *Chunk) {
	p.Generation = max(p.Generation, c.Generation+1)
	p.newest = c
	if !p.chunked {
		p.first, p.chunked = c.First, true
	}
	p.several = p.several || c.First != p.first
	if p.State.has(c) {
		p.Open = c
	}
}

func (p *Restored) deleteChunk(first int64) {
	if p.newest != nil && p.newest.First == first {
		p.newest = nil
	}
	if p.Open != nil && p.Open.First == first {
		p.Open = nil
	}
}

// has reports whether a chunk is the open one of the state.
func (s *PartitionState) has(c *Chunk) bool {
	return s != nil && c != nil && c.First == s.Chunk && c.Generation == s.Generation
}

// Map returns the map of the partition from its open chunk on. It fails as [RestoreMap] does. If the journal has chunks that
// were written ahead of the state, the open chunk counts as changed: written again it is behind them, where the next reader
// expects it.
func (p *Restored) Map() (*Map, error) {
	if p.State == nil {
		return nil, errors.New("the journal has no state of the partition")
	}
	if p.Open == nil {
		return RestoreMap(p.State)
	}
	m, err := RestoreMap(p.State, p.Open)
	if err == nil && p.newest != p.Open {
		m.touch()
	}
	return m, err
}
