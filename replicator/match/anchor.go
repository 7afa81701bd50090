package match

import "github.com/milena-kafka/milena/offsets"

// Ascending drops the sync points that were written before the target topic was recreated: they are about another log.
func Ascending(syncPoints []offsets.Position) []offsets.Position {
	for i := len(syncPoints) - 1; i > 0; i-- {
		if syncPoints[i].Target <= syncPoints[i-1].Target {
			return syncPoints[i:]
		}
	}
	return syncPoints
}

// Anchor is the index of the sync point to begin at: the newest one before which nothing was copied that is behind it. MirrorMaker 2 that was
// stopped begins again earlier, and what it had copied beyond is there twice. Between two sync points the source has no gap, as a gap has one
// of its own, so it is known how far it had come. Start and end are those of both logs. -1: no sync point will do.
func Anchor(syncPoints []offsets.Position, start, end offsets.Position) int {
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
