package replicator

import (
	"testing"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A log that is read up to an offset is read past all markers: there is no fence, and the first producer of a cluster has id 0.
func TestLogTailUpToAnOffsetPassesMarkers(t *testing.T) {
	const control recordbatch.Attributes = 1 << 5
	var visited []int64
	tail := &logTail{until: 3, visit: func(h recordbatch.Header, _ []byte) error {
		visited = append(visited, h.BaseOffset)
		return nil
	}}
	for offset, attributes := range []recordbatch.Attributes{0, control, 0} {
		if tail.done {
			t.Fatalf("the tail ends at offset %d, want 3", tail.end)
		}
		h := recordbatch.Header{BaseOffset: int64(offset), Magic: 2, Count: 1, Attributes: attributes, ProducerID: 0, ProducerEpoch: 0}
		tail.addBatch(recordbatch.Batch{Header: h}, &recordbatch.Aborted{})
	}
	if !tail.done || tail.end != 3 || len(visited) != 3 {
		t.Errorf("done %v, end %d, visited %v", tail.done, tail.end, visited)
	}

	toMark := &logTail{until: toMarker, mark: marker{producerID: 0, epoch: 2}, visit: tail.visit}
	for offset, epoch := range []int16{1, 2} {
		h := recordbatch.Header{BaseOffset: int64(offset), Magic: 2, Count: 1, Attributes: control, ProducerID: 0, ProducerEpoch: epoch}
		toMark.addBatch(recordbatch.Batch{Header: h}, &recordbatch.Aborted{})
	}
	if !toMark.done || toMark.end != 2 {
		t.Errorf("the marker of the fence is not found: done %v, end %d", toMark.done, toMark.end)
	}
}
