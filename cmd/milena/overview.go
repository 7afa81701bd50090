package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
)

// overview is a Status of bounded size, for the page and milena status: thousands of partitions are summed up by topic, and
// only partitions that need attention are listed, up to maxShown.
type overview struct {
	replicator.Status
	PartitionCount int             `json:"partition_count"`
	TopicCount     int             `json:"topic_count"`
	AttentionCount int             `json:"attention_count"` // partitions
	Attention      attentionList   `json:"attention"`
	Topics         []topicOverview `json:"topics"`
	lossOverview
	// AllIsWell says that nothing about the flow needs attention.
	AllIsWell bool `json:"all_is_well"`
	// Decisions are sentences about what people decided that holds, and whether they can decide.
	Decisions []string `json:"decisions,omitempty"`
	// Verified are the partitions whose copies are verified in the background, those first that were not for longest.
	Verified []verifiedRow `json:"verified,omitempty"`
	// Hidden counts the partitions and topics that need attention and are not in Attention.
	Hidden int `json:"attention_hidden"`

	stopping bool // the process waits for batches in flight
}

// attentionEntry is one or more partitions of a topic that need attention for the same reason.
type attentionEntry struct {
	Topic      string `json:"topic"`
	Partitions string `json:"partitions"` // such as 3 or 0-7
	State      string `json:"state"`
	Why        string `json:"why"`

	count int
	last  int32
}

// attentionList sums up what needs attention, in the order in which it is added.
type attentionList []attentionEntry

// maxShown bounds each list of an overview.
const maxShown = 200

func newOverview(s replicator.Status) overview {
	o := overview{Status: s, PartitionCount: len(s.Partitions), Attention: attentionList{}, Topics: []topicOverview{}}
	o.sum(s.Partitions, throttlesOf(s.Control.InForce))
	o.Partitions = nil
	o.Decisions = controlTexts(s.Control)
	o.Attention.addNotCopied(o.NotCopied)
	o.TopicCount = len(o.Topics)
	o.Hidden = o.Attention.choose()
	o.Topics = chooseTopics(o.Topics, maxShown)
	o.Verified = oldestVerified(o.Verified, maxShown)
	o.AllIsWell = o.allIsWell()
	o.lossOverview = newLossOverview(s.RPO, s.RTOObjectiveSeconds, time.Now())
	o.RPO.Topics = nil // there may be many; /status has them
	if s.Groups != nil {
		groups := *s.Groups
		groups.Refusals = groups.Refusals[:min(maxShown, len(groups.Refusals))]
		groups.LagRecords = nil // there may be many groups; /status has it
		groups.NotFollowed = groups.NotFollowed[:min(maxShown, len(groups.NotFollowed))]
		o.Groups = &groups
	}
	return o
}

// allIsWell reports whether nothing about the flow needs attention.
func (o *overview) allIsWell() bool {
	problems := len(o.Certificates) + len(o.Controllers)
	if o.Groups != nil {
		problems += len(o.Groups.Problems)
	}
	if o.Configs != nil {
		problems += len(o.Configs.Problems)
	}
	if o.ACLs != nil {
		problems += len(o.ACLs.Problems)
	}
	return healthy([]replicator.Status{o.Status}) == nil && len(o.Attention)+problems == 0
}

// sum adds the partitions to their topics and collects those that need attention.
func (o *overview) sum(partitions []replicator.PartitionStatus, throttled throttles) {
	topics := make(map[string]*topicOverview)
	for _, p := range partitions {
		if p.Verified != nil {
			o.Verified = append(o.Verified, verifiedRow{p.Topic, p.Partition, p.Verified})
		}
		t := topics[p.Topic]
		if t == nil {
			t = &topicOverview{Topic: p.Topic, TargetTopic: p.TargetTopic}
			topics[p.Topic] = t
		}
		t.add(p, throttled)
		if why := attention(p); why != "" {
			t.Attention++
			o.AttentionCount++
			o.Attention.add(p.Topic, p.Partition, p.State, why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		o.Topics = append(o.Topics, *topics[name])
	}
}

// add adds a partition that needs attention to the last entry if it continues that one.
func (l *attentionList) add(topic string, partition int32, state, why string) {
	if n := len(*l); n > 0 {
		e := &(*l)[n-1]
		if e.Topic == topic && e.State == state && e.Why == why && e.last+1 == partition {
			e.count, e.last = e.count+1, partition
			e.Partitions = fmt.Sprintf("%d-%d", partition-int32(e.count)+1, partition)
			return
		}
	}
	*l = append(*l, attentionEntry{Topic: topic, Partitions: strconv.Itoa(int(partition)), State: state, Why: why, count: 1, last: partition})
}

// addNotCopied adds the selected topics that are not copied and have no partition that says so.
func (l *attentionList) addNotCopied(reasons map[string]string) {
	listed := make(map[string]bool)
	for _, e := range *l {
		listed[e.Topic] = true
	}
	for _, topic := range slices.Sorted(maps.Keys(reasons)) {
		if !listed[topic] {
			*l = append(*l, attentionEntry{Topic: topic, Partitions: "-", State: "waiting", Why: reasons[topic]})
		}
	}
}

// choose keeps up to maxShown entries and returns how many partitions and topics it leaves out. It puts halted partitions first, as they wait for the
// operator and the others may recover without help.
func (l *attentionList) choose() (hidden int) {
	slices.SortStableFunc(*l, func(a, b attentionEntry) int { return cmp.Compare(rank(a), rank(b)) })
	for _, e := range (*l)[min(maxShown, len(*l)):] {
		hidden += max(1, e.count)
	}
	*l = (*l)[:min(maxShown, len(*l))]
	return hidden
}

func rank(e attentionEntry) int {
	if e.State == "halted" {
		return 0
	}
	return 1
}

// controlTexts are sentences about what people decided that holds, and whether they can decide.
func controlTexts(c replicator.ControlStatus) (texts []string) {
	for _, d := range c.InForce[:min(maxGroupRows, len(c.InForce))] {
		texts = append(texts, inForceText(string(d.What), d.Scope, d.Who, d.Why, d.Since, d.Until, d.BytesPerSecond))
	}
	if n := len(c.InForce) - maxGroupRows; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more decisions hold; --output json prints all", n))
	}
	if r := c.Recovery; r != nil {
		texts = append(texts, fmt.Sprintf("%s by %s: %s", r.What, r.Who, recoveryText(r)))
	}
	for _, f := range c.Frozen {
		texts = append(texts, frozenText(f))
	}
	if c.Drill != nil {
		texts = append(texts, drillText(c.Drill))
	}
	if c.Problem != "" {
		texts = append(texts, c.Problem)
	}
	if n := len(c.LastIgnored); n > 0 {
		texts = append(texts, fmt.Sprintf("%s of the control topic are not decisions and are ignored; the last one is at %s", count(c.Ignored, "record"), c.LastIgnored[n-1]))
	}
	return texts
}

// frozenText says whose producers are stopped, and what ends that.
func frozenText(f control.Frozen) string {
	since := ""
	if !f.Since.IsZero() {
		since = " since " + localTime(f.Since)
	}
	return fmt.Sprintf("frozen: producers may not write to cluster %s, by a switchover with --freeze %s%s; milena switchover --flow %s --thaw lets them", f.Cluster, f.How, since, f.Flow)
}

// drillText is how the last drill came out, as a sentence.
func drillText(d *control.DrillStatus) string {
	text := fmt.Sprintf("last drill: %s by %s: ", localTime(d.When), d.Who)
	switch {
	case d.Passed:
		text += "passed"
	case d.Findings > 0:
		text += "not passed, " + count(d.Findings, "finding")
	default:
		text += "not carried out"
	}
	for _, f := range []struct {
		name    string
		seconds *float64
	}{{"RPO", d.RPOSeconds}, {"RTO", d.RTOSeconds}} {
		if f.seconds != nil {
			text += fmt.Sprintf(", %s %.1f s", f.name, *f.seconds)
		}
	}
	switch {
	case d.Passed:
	case d.LastPassed.IsZero():
		text += "; none was passed yet"
	default:
		text += "; the last that was passed: " + localTime(d.LastPassed)
	}
	return text
}

// inForceText is a decision that holds as a sentence.
func inForceText(what, scope, who, why string, since, until time.Time, rate int64) string {
	text := "paused: " + scope
	switch control.Verb(what) {
	case control.StopFlow:
		text = "stopped: " + scope
	case control.FailOver:
		text = "failed over: " + scope + " does nothing until milena failback or milena start"
	case control.Throttle:
		text = fmt.Sprintf("throttled to %s/s: %s", size(rate), scope)
	case control.Pause, control.Resume, control.Retry, control.Skip, control.RestartCopy, control.Adopt, control.StartFlow, control.SyncGroups:
	}
	text += fmt.Sprintf(", by %s since %s", who, since.Local().Format(time.DateTime))
	if !until.IsZero() {
		text += " until " + until.Local().Format(time.DateTime)
	}
	return text + reasonOf(why)
}

// attentionSeconds is the lag from which a partition needs attention. Less is the normal variation of a busy flow.
const attentionSeconds = 10

// attention is the reason why a partition needs attention, or "".
func attention(p replicator.PartitionStatus) string {
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
		return fmt.Sprintf("the source has not answered since %s, so the lag is unknown", p.SourceSeen.Local().Format(time.DateTime))
	case p.Verified.Problem() != "":
		return p.Verified.Problem()
	case p.LagSeconds != nil && *p.LagSeconds > attentionSeconds:
		return fmt.Sprintf("%v behind the source", time.Duration(*p.LagSeconds)*time.Second)
	default:
		return ""
	}
}
