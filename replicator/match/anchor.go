package match

import "github.com/milena-kafka/milena/offsets"

// Ascending returns the sync points after the last one whose target offset does not ascend. Those before it were written before the target
// topic was recreated, so they are about another log.
func Ascending(syncPoints []offsets.Pair) []offsets.Pair {
	for i := len(syncPoints) - 1; i > 0; i-- {
		if syncPoints[i].Target <= syncPoints[i-1].Target {
			return syncPoints[i:]
		}
	}
	return syncPoints
}

// Anchor returns the index of the sync point to begin at, or -1 if none is suitable: the newest sync point before which no source record
// after it was copied. A MirrorMaker 2 that was stopped hard restarts at an earlier source offset, so the records it had copied beyond that
// are on the target twice. How far it had come is known from the target offsets: MirrorMaker 2 writes a sync point at each gap of the
// source, so there is no gap between two of them. The bounds of both logs are start, inclusive, and end, exclusive.
func Anchor(syncPoints []offsets.Pair, start, end offsets.Pair) int {
	anchor := len(syncPoints) - 1
	for i := len(syncPoints) - 2; i >= 0; i-- {
		between := syncPoints[i+1].Target - syncPoints[i].Target
		repeated := syncPoints[i+1].Source-syncPoints[i].Source < between // more records than source offsets: some are duplicates
		if repeated && syncPoints[i].Source+between > syncPoints[anchor].Source {
			anchor = i
		}
	}
	if anchor < 0 {
		return -1
	}
	at := syncPoints[anchor]
	if at.Source < start.Source || at.Target < start.Target || at.Source >= end.Source || at.Target >= end.Target {
		return -1
	}
	return anchor
}
