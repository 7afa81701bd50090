package plan

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// Severity says how bad a finding is.
type Severity string

// The severities, worst first.
const (
	// SeverityError means that records are not copied, or will be lost, until it is mended.
	SeverityError Severity = "error"
	// SeverityWarning means that records are copied, but at a risk or a price.
	SeverityWarning Severity = "warning"
	// SeverityNote is worth knowing. Nothing has to be done.
	SeverityNote Severity = "note"
)

// FindingID names what is wrong. The page docs/doctor.md has a section about each.
type FindingID string

// The ids of findings.
const (
	ClusterUnreachable  FindingID = "cluster-unreachable"
	BrokerUnreachable   FindingID = "broker-unreachable"
	CertificateInvalid  FindingID = "certificate-invalid"
	CertificateExpires  FindingID = "certificate-expires"
	ClockSkew           FindingID = "clock-skew"
	BrokerVersion       FindingID = "broker-version"
	MixedVersions       FindingID = "mixed-versions"
	Offline             FindingID = "offline"
	UnderReplicated     FindingID = "under-replicated"
	BelowMinISR         FindingID = "below-min-isr"
	MinISR              FindingID = "min-isr"
	SingleReplica       FindingID = "single-replica"
	FewerReplicas       FindingID = "fewer-replicas"
	TransactionLog      FindingID = "transaction-log"
	RetentionLag        FindingID = "retention-lag"
	TombstonesLag       FindingID = "tombstones-lag"
	MessageSize         FindingID = "message-size"
	Recompression       FindingID = "recompression"
	TimestampType       FindingID = "timestamp-type"
	TimestampLimit      FindingID = "timestamp-limit"
	ShorterRetention    FindingID = "shorter-retention"
	InternalTopicConfig FindingID = "internal-topic-config"
	Quota               FindingID = "quota"
	GroupNotFollowed    FindingID = "group-not-followed"
	GroupProtocol       FindingID = "group-protocol"
	NotExamined         FindingID = "not-examined"
)

// FindingIDs returns all ids.
func FindingIDs() []FindingID {
	return []FindingID{
		ClusterUnreachable, BrokerUnreachable, CertificateInvalid, CertificateExpires, ClockSkew, BrokerVersion, MixedVersions,
		Offline, UnderReplicated, BelowMinISR, MinISR, SingleReplica, FewerReplicas, TransactionLog,
		RetentionLag, TombstonesLag, MessageSize, Recompression, TimestampType, TimestampLimit, ShorterRetention,
		InternalTopicConfig, Quota, GroupNotFollowed, GroupProtocol, NotExamined,
	}
}

// Finding is one thing that is wrong, or worth knowing, on one of the clusters of a flow.
type Finding struct {
	ID       FindingID `json:"id"`
	Severity Severity  `json:"severity"`
	// Cluster is the alias of the cluster to mend.
	Cluster string `json:"cluster"`
	// Topic is empty if the finding is about the cluster, a broker or a group.
	Topic string `json:"topic,omitempty"`
	// Meaning is one sentence.
	Meaning string `json:"meaning"`
	// Mend says what to do in words, and Command is a command of a shell that does it. At least one of them is set.
	Mend    string `json:"mend,omitempty"`
	Command string `json:"command,omitempty"`
}

// Diagnosis is what the doctor found about one flow.
type Diagnosis struct {
	Flow string `json:"flow"`
	// Findings are sorted by severity, the worst first, then by id, cluster and topic.
	Findings []Finding `json:"findings"`
}

// Errors counts the findings that are errors.
func (d *Diagnosis) Errors() (n int) {
	for _, f := range d.Findings {
		if f.Severity == SeverityError {
			n++
		}
	}
	return n
}

func (d *Diagnosis) sort() {
	severities, ids := []Severity{SeverityError, SeverityWarning, SeverityNote}, FindingIDs()
	slices.SortStableFunc(d.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)),
			cmp.Compare(slices.Index(ids, a.ID), slices.Index(ids, b.ID)),
			cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Meaning, b.Meaning))
	})
}

// tool is the command line of one of Kafka's tools for a cluster. With TLS or SASL, client.properties has what the tools need to connect.
func tool(name string, c config.Cluster, args string) string {
	line := fmt.Sprintf("%s --bootstrap-server %s", name, strings.Join(c.Brokers, ","))
	if c.TLS != nil || c.SASL != nil {
		line += " --command-config client.properties"
	}
	return line + " " + args
}

// alterTopic is the command that sets a config of a topic.
func alterTopic(c config.Cluster, topic, name, value string) string {
	return tool("kafka-configs.sh", c, fmt.Sprintf("--alter --entity-type topics --entity-name %s --add-config %s=%s", topic, name, value))
}

// harmless matches what a shell takes as it is.
var harmless = regexp.MustCompile(`^[A-Za-z0-9._:@/+-]+$`)

// word is a word of a shell.
func word(s string) string {
	if harmless.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
