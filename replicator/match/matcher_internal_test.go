package match

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/milena-kafka/milena/offsets"
)

// copier imitates MirrorMaker 2: it copies in order, and restarts at an earlier source offset after it was killed.
type copier struct {
	random *rand.Rand
	source []logRecord
	target []logRecord
	origin map[int64]int64 // target offset → source offset, the truth
	starts map[int64]bool  // target offsets where it started
	syncs  []offsets.Pair  // as MirrorMaker 2 writes them: at each start, at each gap, and from time to time
	next   int             // index into source
	stored int
	end    int64
}

type logRecord struct {
	offset int64
	hash   uint64
}

// newCopier creates a source log; alike is the percentage of records with the content of an earlier one.
func newCopier(seed uint64, records, alike int) *copier {
	c := &copier{random: rand.New(rand.NewPCG(seed, 7)), origin: map[int64]int64{}, starts: map[int64]bool{}}
	offset := int64(c.random.IntN(50))
	for range records {
		r := logRecord{offset: offset, hash: c.random.Uint64()}
		if c.random.IntN(100) < alike && len(c.source) > 0 {
			r.hash = c.source[c.random.IntN(len(c.source))].hash
		}
		c.source = append(c.source, r)
		if offset++; c.random.IntN(10) == 0 {
			offset += int64(c.random.IntN(5)) // markers, compaction
		}
	}
	return c
}

// copy copies up to n records and sometimes stores its progress.
func (c *copier) copy(n int) {
	first, since := true, 0
	for ; n > 0 && c.next < len(c.source); n-- {
		r := c.source[c.next]
		gap := c.next > 0 && r.offset != c.source[c.next-1].offset+1
		if since++; first || gap || since > 30 {
			c.syncs = append(c.syncs, offsets.Pair{Source: r.offset, Target: c.end})
			c.starts[c.end] = c.starts[c.end] || first
			first, since = false, 0
		}
		c.append(r)
		c.next++
		if c.random.IntN(60) == 0 {
			c.stored = c.next
		}
	}
}

func (c *copier) append(r logRecord) {
	c.target = append(c.target, logRecord{offset: c.end, hash: r.hash})
	c.origin[c.end] = r.offset
	c.end++
}

// kill makes it restart from the progress that it last stored.
func (c *copier) kill() { c.next = c.stored }

// matchAll matches a target log with a source log that is added a few records at a time.
func matchAll(m *Matcher, source, target []logRecord) {
	for _, t := range target {
		for m.Match(t.offset, t.hash) == NeedMore {
			n := min(7, len(source))
			for _, r := range source[:n] {
				m.Add(SourceRecord{Offset: r.offset, Hash: r.hash})
			}
			source = source[n:]
			m.Ended = n == 0
		}
	}
}

func TestMatcherOfACopierThatRestarts(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newCopier(seed, 2000, 5)
			for range c.random.IntN(5) {
				c.copy(c.random.IntN(600))
				if c.random.IntN(2) == 0 {
					c.kill()
				}
			}
			c.copy(1 + c.random.IntN(100))
			m := New(c.syncs, true)
			matchAll(m, c.source, c.target)
			highest, duplicates := int64(-1), int64(0)
			for _, r := range c.target {
				if from := c.origin[r.offset]; from > highest {
					highest = from
				} else {
					duplicates++
				}
			}
			if m.next != highest+1 || m.duplicates != duplicates || m.missing != 0 || m.unmatched != 0 {
				t.Fatalf("next %d, want %d; %d duplicates, want %d; %d missing, %d unmatched", m.next, highest+1, m.duplicates, duplicates, m.missing, m.unmatched)
			}
			next := int64(0)
			for _, segment := range m.segments {
				for i := range segment.Count {
					if c.origin[segment.Target+i] != segment.Source+i || segment.Source+i < next {
						t.Fatalf("source %d is matched with target %d, which holds source %d", segment.Source+i, segment.Target+i, c.origin[segment.Target+i])
					}
					next = segment.Source + i + 1
				}
			}
		})
	}
}

// Matching from the anchor gives the same result as matching from the beginning.
func TestAnchorIsBeforeEverythingNew(t *testing.T) {
	for seed := range uint64(300) {
		c := newCopier(seed, 3000, 5)
		for range 1 + c.random.IntN(5) {
			c.copy(1 + c.random.IntN(700))
			if c.random.IntN(2) == 0 {
				c.kill()
				c.copy(1 + c.random.IntN(40)) // it may be killed again before it caught up
			}
		}
		whole := New(nil, true)
		matchAll(whole, c.source, c.target)
		start, end := offsets.Pair{Source: c.source[0].offset}, offsets.Pair{Source: c.source[len(c.source)-1].offset + 1, Target: c.end}
		anchor := Anchor(c.syncs, start, end)
		if anchor < 0 {
			t.Fatalf("seed %d: no anchor", seed)
		}
		from := c.syncs[anchor]
		low := from.Source
		for _, s := range c.syncs[anchor:] {
			low = min(low, s.Source)
		}
		m := New(c.syncs, true)
		matchAll(m,
			slices.DeleteFunc(slices.Clone(c.source), func(r logRecord) bool { return r.offset < low }),
			slices.DeleteFunc(slices.Clone(c.target), func(r logRecord) bool { return r.offset < from.Target }))
		highest := int64(-1)
		for _, s := range c.origin {
			highest = max(highest, s)
		}
		if m.next != highest+1 {
			t.Errorf("seed %d: next %d from the anchor %+v, want %d", seed, m.next, from, highest+1)
		}
	}
}

// Compaction removes records from both logs. What is left is matched correctly, and no record that is left on the source is skipped.
func TestMatcherOfCompactedLogs(t *testing.T) {
	for seed := range uint64(200) {
		c := newCopier(seed, 1500, 5)
		c.copy(600)
		c.kill()
		c.copy(500)
		last := c.target[len(c.target)-1]
		thin := func(log []logRecord) []logRecord {
			return slices.DeleteFunc(slices.Clone(log), func(r logRecord) bool { return r != last && c.random.IntN(3) == 0 })
		}
		source := thin(c.source)
		if i := slices.IndexFunc(source, func(r logRecord) bool { return r.offset == c.origin[last.offset] }); i < 0 {
			source = append(source, logRecord{offset: c.origin[last.offset], hash: last.hash})
			slices.SortFunc(source, func(a, b logRecord) int { return int(a.offset - b.offset) })
		}
		m := New(c.syncs, true)
		matchAll(m, source, thin(c.target))
		if highest := c.source[c.next-1].offset; m.next != highest+1 {
			t.Errorf("seed %d: next %d, want %d", seed, m.next, highest+1)
		}
	}
}

// Transaction markers on the target are not lost records: no record with equal content may be skipped because of them.
func TestMatcherSkipsMarkers(t *testing.T) {
	for name, syncPoints := range map[string][]offsets.Pair{"one sync point": {{Source: 0, Target: 0}}, "no sync point": nil} {
		t.Run(name, func(t *testing.T) {
			m := New(syncPoints, true)
			for i := range int64(100) {
				m.Add(SourceRecord{Offset: i, Hash: 1}) // all in one millisecond
			}
			m.Ended = true
			target := int64(0)
			for i := range 40 {
				if i > 0 && i%10 == 0 { // a transaction ends
					m.Skip(target, target+1)
					target++
				}
				m.Match(target, 1)
				target++
			}
			m.Skip(target, target+1)
			if m.next != 40 || m.missing != 0 || m.duplicates != 0 || m.unmatched != 0 {
				t.Errorf("next %d, want 40; %d missing, %d duplicates, %d unmatched", m.next, m.missing, m.duplicates, m.unmatched)
			}
		})
	}
}

// A refuted tentative match leaves no trace: the target records after it count as well.
func TestRefutedMatchLosesNoTargetRecord(t *testing.T) {
	m := New(nil, true)
	for i, hash := range []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10} {
		if i != 5 {
			m.Add(SourceRecord{Offset: int64(i), Hash: hash})
		}
	}
	m.Ended = true
	m.Match(0, 1)
	m.Match(5, 5)  // four target offsets hold no record, and the content is that of a later record
	m.Match(6, 99) // would be the record that the source lost
	m.Match(7, 98) // the source holds another record there
	if lost := 8 - m.last - 1 - m.since; lost != 4 || m.unmatchedSince != 3 || m.unmatched != 3 {
		t.Errorf("%d lost, want 4; %d unmatched since the newest match, %d unmatched, want 3", lost, m.unmatchedSince, m.unmatched)
	}
}

// Records with distinct content are enough without sync points, and with half of them.
func TestMatcherWithoutSyncPoints(t *testing.T) {
	for seed := range uint64(300) {
		c := newCopier(seed, 2000, 0)
		for range 4 {
			c.copy(c.random.IntN(500))
			if c.random.IntN(2) == 0 {
				c.kill()
			}
		}
		c.copy(10)
		highest := int64(-1)
		for _, s := range c.origin {
			highest = max(highest, s)
		}
		some := slices.DeleteFunc(slices.Clone(c.syncs), func(offsets.Pair) bool { return c.random.IntN(2) == 0 })
		for name, syncs := range map[string][]offsets.Pair{"none": nil, "half": some} {
			m := New(syncs, true)
			matchAll(m, c.source, c.target)
			if m.next != highest+1 || m.missing != 0 || m.unmatched != 0 {
				t.Errorf("seed %d, sync points %s: next %d, want %d; %d missing, %d unmatched", seed, name, m.next, highest+1, m.missing, m.unmatched)
			}
		}
	}
}

// MirrorMaker 2 drops sync points, mostly those of gaps, when too many are in flight. If all records have equal content, that the copier
// continues in order then counts more than what an older sync point says.
func TestMatcherOfRecordsWithEqualContent(t *testing.T) {
	for seed := range uint64(300) {
		c := newCopier(seed, 1000, 0)
		for i := range c.source {
			c.source[i].hash = uint64(c.random.IntN(3))
		}
		for range 4 {
			c.copy(1 + c.random.IntN(200))
			if c.random.IntN(2) == 0 {
				c.kill()
			}
		}
		highest := int64(-1)
		for _, s := range c.origin {
			highest = max(highest, s)
		}
		starts := slices.DeleteFunc(slices.Clone(c.syncs), func(s offsets.Pair) bool { return !c.starts[s.Target] })
		m := New(starts, false)
		matchAll(m, c.source, c.target)
		if m.next != highest+1 || m.missing != 0 || m.unmatched != 0 {
			t.Errorf("seed %d: next %d, want %d; %d missing, %d unmatched", seed, m.next, highest+1, m.missing, m.unmatched)
		}
	}
}

func TestMatcherWindowIsBounded(t *testing.T) {
	m := New(nil, true)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range int64(3 * windowBack) {
		hash := random.Uint64()
		m.Add(SourceRecord{Offset: i, Hash: hash})
		if m.Match(i+5, hash) != Matched {
			t.Fatal("not matched at", i)
		}
	}
	if n := len(m.records); n > 2*windowBack+1 {
		t.Errorf("%d records in the window", n)
	}
	if len(m.newest) > len(m.records) {
		t.Errorf("%d records in the index", len(m.newest))
	}
	if len(m.segments) != 1 || m.next != 3*windowBack {
		t.Errorf("%d segments, next %d", len(m.segments), m.next)
	}
	m.Ended = true
	for i := range int64(1000) { // a restart within the window
		if at := 3*windowBack - 1000 + i; m.Match(at+100_000, m.records[at-int64(m.from)].hash) != Matched {
			t.Fatal("not found again at", at)
		}
	}
	if m.duplicates != 1000 {
		t.Errorf("%d duplicates, want 1000", m.duplicates)
	}
}
