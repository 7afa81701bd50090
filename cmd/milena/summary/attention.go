package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/milena-kafka/milena/replicator"
)

// Entry is one or more partitions of a topic that need attention for the same reason.
type Entry struct {
	Topic      string
	Partitions string // such as 3 or 0-7
	State      string
	Why        string

	count int // of partitions, 0 of a topic without any
	last  int32
}

// Entries sums up what needs attention, in the order in which it is added.
type Entries []Entry

// Add adds a partition that needs attention to the last entry if it continues that one.
func (l *Entries) Add(topic string, partition int32, state, why string) {
	if n := len(*l); n > 0 {
		e := &(*l)[n-1]
		if e.Topic == topic && e.State == state && e.Why == why && e.last+1 == partition {
			e.count, e.last = e.count+1, partition
			e.Partitions = fmt.Sprintf("%d-%d", partition-int32(e.count)+1, partition)
			return
		}
	}
	*l = append(*l, Entry{Topic: topic, Partitions: strconv.Itoa(int(partition)), State: state, Why: why, count: 1, last: partition})
}

// AddNotCopied adds the selected topics that are not copied and have no partition that says so.
func (l *Entries) AddNotCopied(reasons map[string]string) {
	listed := make(map[string]bool)
	for _, e := range *l {
		listed[e.Topic] = true
	}
	for _, topic := range slices.Sorted(maps.Keys(reasons)) {
		if !listed[topic] {
			*l = append(*l, Entry{Topic: topic, Partitions: "-", State: "waiting", Why: reasons[topic]})
		}
	}
}

// Choose keeps up to n entries and returns how many partitions and topics it leaves out. It puts halted partitions first, as they wait for the
// operator and the others may recover without help.
func (l *Entries) Choose(n int) (hidden int) {
	slices.SortStableFunc(*l, func(a, b Entry) int { return cmp.Compare(rank(a), rank(b)) })
	for _, e := range (*l)[min(n, len(*l)):] {
		hidden += max(1, e.count)
	}
	*l = (*l)[:min(n, len(*l))]
	return hidden
}

func rank(e Entry) int {
	if e.State == "halted" {
		return 0
	}
	return 1
}

// AttentionSeconds is the lag from which a partition needs attention. Less is the normal variation of a busy flow.
const AttentionSeconds = 10

// Attention is the reason why a partition needs attention, or "".
func Attention(p replicator.PartitionStatus) string {
	switch {
	case p.Anomaly != nil:
		return fmt.Sprintf("%s: %s. %s", p.Anomaly.Kind, p.Anomaly.Detail, p.Anomaly.Hint)
	case p.Wait != nil:
		return p.Wait.Detail
	case p.State == "paused": // by somebody, and the decision is shown
		return p.Verified.Problem()
	case p.State != "replicating":
		return "not replicating"
	case p.Begun && p.LagRecords == nil && !p.SourceSeen.IsZero():
		return fmt.Sprintf("the source has not answered since %s, so the lag is unknown", LocalTime(p.SourceSeen))
	case p.Verified.Problem() != "":
		return p.Verified.Problem()
	case p.LagSeconds != nil && *p.LagSeconds > AttentionSeconds:
		return fmt.Sprintf("%v behind the source", time.Duration(*p.LagSeconds)*time.Second)
	default:
		return ""
	}
}
