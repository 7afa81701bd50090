package compare

const (
	// How many source records are kept in memory at most for all partitions, some 60 bytes each.
	windowTotal = 1 << 22
	// How many of them a partition may keep in any case.
	windowMin = 1 << 10
	// How many it may keep on each side of its newest match while there is room: of records that MirrorMaker 2 has copied, because it may copy them
	// again after a restart, and of records that it has not copied yet.
	windowMax = 1 << 19
)

// windowSize is how many source records a partition keeps before and behind its newest match.
type windowSize struct{ before, behind int }

// shareWindow limits what each partition keeps.
func (l *logs) shareWindow() {
	sizes := make([]windowSize, len(l.partitions))
	for i, p := range l.partitions {
		sizes[i].before, sizes[i].behind = p.matcher.Size()
	}
	limit := windowLimit(sizes)
	for _, p := range l.partitions {
		p.limitWindow(limit)
	}
}

// windowLimit is how many records one partition may keep on each side: as many as there is room for, and the same for all that want more.
func windowLimit(sizes []windowSize) int {
	limit := windowMax
	for ; limit > windowMin; limit /= 2 {
		total := 0
		for _, s := range sizes {
			total += min(s.before, 2*limit) + min(s.behind, limit) // a matcher trims in steps of its limit
		}
		if total <= windowTotal {
			break
		}
	}
	return limit
}
