package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// doctor examines one flow. The check that it contains knows the clusters, their metadata and the topics to copy; nobody reads its plan.
type doctor struct {
	*check
	on        [2]*side // source and target
	expected  map[string]topics.Expected
	diagnosis *Diagnosis
	now       time.Time
}

// side is one of the two clusters.
type side struct {
	name    string // source or target
	alias   string
	config  config.Cluster
	client  *kgo.Client
	view    topics.View
	explain func(error) error
	brokers map[int32]brokerAnswer
}

// knows reports whether a broker of the cluster knows a request.
func (s *side) knows(key kmsg.Key) bool {
	for _, b := range s.brokers {
		if b.versions != nil && kversion.FromApiVersionsResponse(b.versions).HasKey(int16(key)) {
			return true
		}
	}
	return false
}

// isDisturbed reports whether a broker of the cluster did not answer.
func (s *side) isDisturbed() bool {
	for _, b := range s.brokers {
		if b.err != nil {
			return true
		}
	}
	return false
}

func (d *doctor) sourceSide() *side { return d.on[0] }
func (d *doctor) targetSide() *side { return d.on[1] }

// Doctor connects to both clusters and looks for what endangers the flow, what slows it down, and what will. It changes nothing and may run beside
// the flow; it leaves the same trace as [Check]. What it may not look at is a finding of its own. An error means that an option is wrong, or that ctx
// has ended.
func Doctor(ctx context.Context, o client.Clusters) (*Diagnosis, error) {
	source, target, err := o.Open()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	defer target.Close()
	d := newDoctor(o, source, target)
	if d.topics, err = topics.NewSyncer(source, target, o.Flow, o.Log); err != nil {
		return nil, err
	}
	d.examine(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	d.diagnosis.sort()
	return d.diagnosis, nil
}

// certificateDays is for how many days a certificate should be good.
const certificateDays = 30

func newDoctor(o client.Clusters, source, target *kgo.Client) *doctor {
	return &doctor{
		check: &check{clusters: o, flow: o.Flow, sourceClient: source, targetClient: target, plan: &Plan{}, colliding: map[string]bool{}},
		on: [2]*side{
			{name: "source", alias: o.Flow.Source, config: o.Source, client: source, explain: o.SourceError},
			{name: "target", alias: o.Flow.Target, config: o.Target, client: target, explain: o.TargetError},
		},
		diagnosis: &Diagnosis{Flow: o.Flow.Name, Findings: []Finding{}},
		now:       time.Now(),
	}
}

// examine looks at everything. The brokers come first, because they tell which requests they know.
func (d *doctor) examine(ctx context.Context) {
	if !d.readMetadata(ctx) {
		return
	}
	d.examineBrokers(ctx)
	d.selectTopics()
	var sourceErrs, targetErrs map[string]error
	d.expected, sourceErrs, targetErrs = d.topics.Expect(ctx, d.pairs)
	d.notDescribed(d.sourceSide(), sourceErrs)
	d.notDescribed(d.targetSide(), targetErrs)
	d.examineClocks(ctx)
	d.examineReplicas(ctx)
	d.examineTransactions(ctx)
	d.examineLag(ctx)
	d.examineSizes(ctx)
	d.examineCodecs(ctx)
	d.examineTimestamps(ctx)
	d.examineInternalTopics(ctx)
	d.examineQuotas(ctx)
	d.examineGroups(ctx)
}

// readMetadata reads what both clusters say about themselves. It returns false if there is nothing more to look at.
func (d *doctor) readMetadata(ctx context.Context) bool {
	err := d.reach(ctx)
	if err == nil {
		d.sourceSide().view, d.targetSide().view = d.source, d.target
		return true
	}
	for _, s := range d.on {
		metadata, cancel := context.WithTimeout(ctx, checkTimeout)
		_, failed := topics.Read(metadata, s.client)
		cancel()
		if failed != nil {
			what, todo := halves(s.explain(failed))
			d.add(Finding{ID: ClusterUnreachable, Severity: SeverityError, Cluster: s.alias, Meaning: what, Mend: todo})
		}
	}
	if len(d.diagnosis.Findings) == 0 {
		what, todo := halves(err) // both sides are one cluster
		d.add(Finding{ID: ClusterUnreachable, Severity: SeverityError, Cluster: d.flow.Source, Meaning: what, Mend: todo})
	}
	return false
}

// halves divides an error into what is wrong and, behind the first semicolon, what to do.
func halves(err error) (what, todo string) {
	what, todo, found := strings.Cut(err.Error(), "; ")
	if !found {
		todo = "see the log of the brokers"
	}
	return sentence(what), sentence(todo)
}

// sentence makes a clause a sentence.
func sentence(clause string) string {
	clause = strings.TrimSpace(clause)
	if clause == "" {
		return ""
	}
	if first := clause[:1]; !strings.HasPrefix(clause, "milena") {
		clause = strings.ToUpper(first) + clause[1:]
	}
	return strings.TrimSuffix(clause, ".") + "."
}

func (d *doctor) add(f Finding) { d.diagnosis.Findings = append(d.diagnosis.Findings, f) }

// notExamined notes that something could not be looked at. It says which right is missing, if that is the reason.
func (d *doctor) notExamined(s *side, what, right string, err error) {
	f := Finding{ID: NotExamined, Severity: SeverityNote, Cluster: s.alias}
	f.Meaning = sentence(fmt.Sprintf("It is not known %s: %v", what, err))
	switch {
	case isAuthorization(err):
		f.Mend = fmt.Sprintf("Grant milena's user %s.", right)
	case s.isDisturbed():
		f.Mend = "Mend the brokers that cannot be reached, then run doctor again."
	default:
		f.Mend = "Run doctor again; if this stays, see the log of the brokers."
	}
	d.add(f)
}

// notDescribed notes that the configs of some topics are not known.
func (d *doctor) notDescribed(s *side, errs map[string]error) {
	if len(errs) == 0 {
		return
	}
	names := make([]string, 0, len(errs))
	for name := range errs {
		names = append(names, name)
	}
	first := slices.Min(names)
	d.notExamined(s, fmt.Sprintf("which configs %s of cluster %s have, such as %s", counted(len(errs), "topic"), s.alias, first), "DESCRIBE_CONFIGS on the topics", errs[first])
}

func isAuthorization(err error) bool {
	return errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed)
}

// ownTopics are the topics on one side that milena or MirrorMaker 2 keep for themselves, as far as they exist.
func (d *doctor) ownTopics(s *side) []string {
	names := d.internalTopics()[s.alias]
	if s == d.targetSide() {
		names = append([]string{offsets.JournalTopic(d.flow.Name)}, names...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !s.view.ByName[name].Exists() })
}
