package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/verify"
)

// syncGroupsOften makes all flows of a configuration sync their groups every 200 ms.
func syncGroupsOften(c daemon.Map) daemon.Map {
	for _, flow := range c["flows"].([]daemon.Map) {
		flow["groups_interval"] = "200ms"
	}
	return c
}

// contents are the committed records of a topic, by partition and in log order.
type contents map[int32][]logRecord

// logRecord is a record's identity and its offset. Records of a partition with the same content are numbered, so that an id names one
// record.
type logRecord struct {
	id     string
	offset int64
}

func readContents(t *testing.T, cl *kgo.Client, topic string) contents {
	t.Helper()
	ends, err := verify.ReadEnds(t.Context(), cl, topic)
	check(t, err)
	read := contents{}
	for partition := range ends.End {
		seen := map[string]int{}
		check(t, verify.Sequence(t.Context(), cl, topic, partition, func(r *kgo.Record) error {
			id := recordID(r)
			seen[id]++
			read[partition] = append(read[partition], logRecord{fmt.Sprintf("%s#%d", id, seen[id]), r.Offset})
			return nil
		}))
	}
	return read
}

// recordID is the same for a record and its copy: key, first bytes of the value, timestamp.
func recordID(r *kgo.Record) string {
	return fmt.Sprintf("%x|%x|%d", r.Key, r.Value[:min(len(r.Value), 40)], r.Timestamp.UnixMilli())
}

// committedOffsets are what groups have committed, by group, topic and partition.
type committedOffsets map[string]kadm.OffsetResponses

func readCommitted(t *testing.T, admin *kadm.Client, groups []string) committedOffsets {
	t.Helper()
	read := committedOffsets{}
	for group, fetched := range admin.FetchManyOffsets(t.Context(), groups...) {
		if fetched.Err == nil {
			read[group] = fetched.Fetched
		}
	}
	return read
}

// at is a committed offset, or -1 if there is none.
func (g committedOffsets) at(group, topic string, partition int32) int64 {
	if o, ok := g[group].Lookup(topic, partition); ok && o.Err == nil {
		return o.At
	}
	return -1
}

// commitOffset commits an offset for a group without members.
func commitOffset(t *testing.T, admin *kadm.Client, group string, topic string, partition int32, at int64, metadata string) {
	t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topic, Partition: partition, At: at, LeaderEpoch: -1, Metadata: metadata})
	check(t, admin.CommitAllOffsets(t.Context(), group, o))
}

// outcome counts what consumers of groups experience when they move to the other cluster: how many committed offsets there were, how
// many of them are missing on the other side, and how many records are skipped or read again.
type outcome struct{ offsets, missing, skipped, reread int64 }

func (o outcome) String() string {
	return fmt.Sprintf("%d committed offsets, %d of them missing on the other side; %d records skipped, %d read again", o.offsets, o.missing, o.skipped, o.reread)
}

func (o outcome) add(other outcome) outcome {
	return outcome{o.offsets + other.offsets, o.missing + other.missing, o.skipped + other.skipped, o.reread + other.reread}
}

// exact reports whether no offset is missing and no record is skipped or read again.
func (o outcome) exact() bool { return o.missing+o.skipped+o.reread == 0 }

// groupMove moves groups from a topic to its copy.
type groupMove struct {
	from, to               string
	fromRecords, toRecords contents
	fromOffsets, toOffsets committedOffsets
	groups                 []string
}

// outcome compares what each consumer has read from one topic with what it will read from the other: every record must be in exactly one
// of the two. A group without an offset there starts at the beginning, as with auto.offset.reset=earliest.
func (m groupMove) outcome() outcome {
	var o outcome
	for _, group := range m.groups {
		for partition, records := range m.fromRecords {
			committed := m.fromOffsets.at(group, m.from, partition)
			if committed < 0 {
				continue
			}
			o.offsets++
			translated := m.toOffsets.at(group, m.to, partition)
			if translated < 0 {
				o.missing++
				translated = 0
			}
			copyOffset := map[string]int64{}
			for _, r := range m.toRecords[partition] {
				copyOffset[r.id] = r.offset
			}
			for _, r := range records {
				offset, ok := copyOffset[r.id]
				switch {
				case !ok:
				case r.offset < committed && offset >= translated:
					o.reread++
				case r.offset >= committed && offset < translated:
					o.skipped++
				}
			}
		}
	}
	return o
}

// groupOutcome reads topics and committed offsets on the source and compares them with translated offsets on the target.
func (p *pair) groupOutcome(groups, topics []string, name func(string) string, translated committedOffsets) outcome {
	p.t.Helper()
	var o outcome
	committed := readCommitted(p.t, p.sourceAdmin, groups)
	for _, topic := range topics {
		o = o.add(groupMove{
			from: topic, fromRecords: readContents(p.t, p.sourceClient, topic), fromOffsets: committed,
			to: name(topic), toRecords: readContents(p.t, p.targetClient, name(topic)), toOffsets: translated, groups: groups,
		}.outcome())
	}
	return o
}

// commitScatteredGroups commits offsets of eight groups all over the topics: at the beginning, at the end, far behind, and at random
// offsets, which are in the middle of batches, in transactions, at markers, and in holes that compaction left. It returns the groups.
func commitScatteredGroups(t *testing.T, p *pair, random *rand.Rand, topics ...string) []string {
	t.Helper()
	groups := []string{"zero", "end", "tail", "behind", "random-0", "random-1", "random-2", "random-3"}
	for _, topic := range topics {
		ends, err := verify.ReadEnds(t.Context(), p.sourceClient, topic)
		check(t, err)
		for partition, end := range ends.End {
			start := ends.Start[partition]
			for _, group := range groups {
				at := start + random.Int64N(end-start+1)
				switch group {
				case "zero":
					at = start
				case "end":
					at = end
				case "tail":
					at = end - 1
				case "behind":
					at = start + (end-start)/10
				}
				commitOffset(t, p.sourceAdmin, group, topic, partition, at, "metadata of "+group)
			}
		}
	}
	return groups
}

// waitGroupsSynced waits until every offset that the groups have committed in the topics has one on the other side. It does not check
// which.
func waitGroupsSynced(t *testing.T, from, to *kadm.Client, groups, topics []string, name func(string) string) {
	t.Helper()
	eventually(t, 30*time.Second, "all groups are on the other side", func() (bool, string) {
		committed, synced := readCommitted(t, from, groups), readCommitted(t, to, groups)
		for _, group := range groups {
			for _, topic := range topics {
				for partition := range committed[group][topic] {
					if synced.at(group, name(topic), partition) < 0 {
						return false, fmt.Sprintf("%s has no offset in %s-%d", group, name(topic), partition)
					}
				}
			}
		}
		return true, ""
	})
}

// refusals are the reasons why groups are not synced to the target, by group.
func refusals(t *testing.T, m *milena) map[string]string {
	t.Helper()
	all, err := m.Status(t.Context())
	check(t, err)
	got := map[string]string{}
	for _, s := range all {
		for _, r := range s.Groups.Refusals {
			got[r.Group] = r.Reason
		}
	}
	return got
}

// waitGroupSyncs waits until milena has synced the groups of each flow completely: a sync that began after the call has ended.
func (m *milena) waitGroupSyncs(flows ...string) {
	m.t.Helper()
	const metric = "milena_passes_total"
	for _, flow := range flows {
		labels := []string{`flow="` + flow + `"`, `pass="groups"`, `result="done"`}
		before, err := m.Metric(m.t.Context(), metric, labels...)
		if err != nil {
			before = 0
		}
		m.waitMetric(30*time.Second, before+2, metric, labels...)
	}
}
