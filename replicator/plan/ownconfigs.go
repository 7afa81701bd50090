package plan

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/topics"
)

// examineInternalTopics looks at the configs of the journal and of MirrorMaker 2's internal topics. The flow only halts for the journal.
func (d *doctor) examineInternalTopics(ctx context.Context) {
	for _, s := range d.on {
		for _, name := range d.ownTopics(s) {
			d.examineOwn(ctx, s, name)
		}
	}
	s, journal := d.targetSide(), offsets.JournalTopic(d.flow.Name)
	described, _ := topics.Describe(ctx, s.client, s.alias, []string{journal})
	if n := number(described[journal], "segment.bytes"); n > topics.SmallSegmentBytes {
		d.add(Finding{
			ID: InternalTopicConfig, Severity: SeverityWarning, Cluster: s.alias, Topic: journal,
			Meaning: fmt.Sprintf("The journal has segment.bytes=%d, and the last segment of a partition is never compacted, so a start reads more than it has to.", n),
			Mend:    "Make the segments small:", Command: alterTopic(s.config, journal, "segment.bytes", strconv.Itoa(topics.SmallSegmentBytes)),
		})
	}
}

// examineOwn looks at one topic that must be compacted.
func (d *doctor) examineOwn(ctx context.Context, s *side, name string) {
	isJournal := name == offsets.JournalTopic(d.flow.Name)
	f := Finding{ID: InternalTopicConfig, Severity: SeverityWarning, Cluster: s.alias, Topic: name}
	if isJournal {
		f.Severity = SeverityError
	}
	var wrong *topics.NotCompactedError
	var old *topics.OldFormatError
	switch err := (topics.Own{Name: name}).Check(ctx, s.client, s.alias, s.config.Brokers); {
	case errors.As(err, &wrong):
		f.Meaning = fmt.Sprintf("The topic has cleanup.policy=%s, so retention deletes what must be kept.", wrong.Policy)
		f.Mend, f.Command = "Let it be compacted only:", alterTopic(s.config, name, "cleanup.policy", "compact")
		d.add(f)
	case errors.As(err, &old):
		what, todo := halves(err)
		f.Meaning, f.Mend, f.Severity = what, todo, SeverityError
		d.add(f)
	case err != nil:
		d.notExamined(s, fmt.Sprintf("which configs topic %s has", name), "DESCRIBE_CONFIGS on the topic", err)
	}
	if n := len(s.view.ByName[name].Partitions); !isJournal && n != 1 {
		d.add(Finding{
			ID: InternalTopicConfig, Severity: SeverityWarning, Cluster: s.alias, Topic: name,
			Meaning: fmt.Sprintf("The topic has %d partitions, and MirrorMaker 2 and its clients only read the first one.", n),
			Mend:    "Stop the flow, delete the topic and start the flow, which creates it with one:", Command: tool("kafka-topics.sh", s.config, "--delete --topic "+name),
		})
	}
	if n := len(s.view.ByName[name].Partitions); isJournal && n != int(d.flow.Shards) {
		d.add(Finding{
			ID: InternalTopicConfig, Severity: SeverityError, Cluster: s.alias, Topic: name,
			Meaning: fmt.Sprintf("The journal has %d partitions and the config says shards: %d, so the flow does not start.", n, d.flow.Shards),
			Mend:    fmt.Sprintf("Set shards of the flow to %d.", n),
		})
	}
}
