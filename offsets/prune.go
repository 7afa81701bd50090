package offsets

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// Pruner finds the chunks of a journal partition that nobody needs any more, record by record from the start. The zero value is ready to
// use. It keeps the bounds of the chunks, about 200 bytes each, and not their segments.
type Pruner struct {
	partitions map[TopicPartition]*prunable
}

// prunable is what the journal has of one partition.
type prunable struct {
	history
	unreadable bool // a record could not be decoded, so what it says is not known
}

// Add takes the next record. It returns a *[VersionError] for a format of a newer milena.
func (p *Pruner) Add(key, value []byte) error {
	entry, err := DecodeJournal(key, value)
	if err != nil {
		var newer *VersionError
		if errors.As(err, &newer) {
			return err
		}
		if t, ok := deletes(key); ok && (t.Kind == KindPartition || t.Kind == KindChunk) {
			p.at(t.Topic, t.Partition).unreadable = true
		}
		return nil
	}
	switch e := entry.(type) {
	case *PartitionState:
		p.at(e.Topic, e.Partition).state = e
	case *Chunk:
		p.at(e.Topic, e.Partition).chunks[e.First] = newChunkRef(e, 0)
	case *Tombstone:
		switch e.Kind {
		case KindPartition:
			p.at(e.Topic, e.Partition).state = nil
		case KindChunk:
			delete(p.at(e.Topic, e.Partition).chunks, e.First)
		case KindShard, KindOwner, KindGroup, KindLineage, KindHorizon:
		}
	case *ShardState, *Owner, *GroupPositions, *Lineage, *Horizon:
	}
	return nil
}

func (p *Pruner) at(topic string, partition int32) *prunable {
	tp := TopicPartition{Topic: topic, Partition: partition}
	if p.partitions == nil {
		p.partitions = make(map[TopicPartition]*prunable)
	}
	if p.partitions[tp] == nil {
		p.partitions[tp] = &prunable{history: history{chunks: make(map[int64]*chunkRef)}}
	}
	return p.partitions[tp]
}

// Chunks returns how many chunks were found.
func (p *Pruner) Chunks() int {
	n := 0
	for _, h := range p.partitions {
		n += len(h.chunks)
	}
	return n
}

// Candidates returns the states of the partitions that have more than an open chunk, and whose chain of chunks is complete. Only the log
// starts of these matter.
func (p *Pruner) Candidates() []*PartitionState {
	var states []*PartitionState
	for _, h := range p.partitions {
		if h.state != nil && !h.unreadable && len(h.chunks) > 1 && h.isComplete() {
			states = append(states, h.state)
		}
	}
	return states
}

// isComplete reports whether the chunks of the state's map follow each other up to the open one.
func (p *prunable) isComplete() bool {
	p.sortRefs()
	for c := range p.refs {
		if p.problem(c) != "" {
			return false
		}
	}
	return len(p.refs) > 0
}

// Unneeded returns the names of a candidate's chunks that describe nothing that is left, for a source and a copy whose logs start at the given
// offsets. The order is the one in which they must be deleted, so that the chain has no missing link in between:
//
//   - chunks of the map whose successor begins at or below both log starts: every translation of an offset that one of the logs still has is
//     answered by the successor and those after it
//   - chunks of earlier generations, if the map begins at or below both log starts
//
// The open chunk is never among them. If the journal was written since it was read, a chunk of the map may now have the name of one of an earlier
// generation: it is one between the open chunk, as it was read, and the end of the map, as it is now.
func (p *Pruner) Unneeded(s *PartitionState, logStarts Pair) []int64 {
	h := p.partitions[TopicPartition{s.Topic, s.Partition}]
	covers := func(begin Pair) bool { return begin.Source <= logStarts.Source && begin.Target <= logStarts.Target }
	below := int64(0) // chunks of the map below this name are not needed
	for _, ref := range h.refs {
		if !ref.empty && covers(ref.begin) {
			below = ref.first
		}
	}
	earlier := covers(s.Start)
	var list []int64
	for _, first := range slices.Sorted(maps.Keys(h.chunks)) {
		order := cmp.Compare(h.chunks[first].generation, s.Generation)
		if order == 0 && first < below || order < 0 && earlier {
			list = append(list, first)
		}
	}
	return list
}
