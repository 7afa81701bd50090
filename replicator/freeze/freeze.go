package freeze

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Method is how producers are stopped.
type Method string

const (
	// ACL denies WRITE on the topics.
	ACL Method = "acl"
	// Quota throttles all producers of the cluster to one byte per second.
	Quota Method = "quota"
	// None changes nothing.
	None Method = "none"
)

// Options say what is to be frozen.
type Options struct {
	// Cluster is the cluster's alias, for sentences.
	Cluster string
	Method  Method
	Topics  []string
	// Principals are those under which milena logs in to the cluster, as Kafka writes them: User:milena. A cluster without login has
	// User:ANONYMOUS.
	Principals []string
	// Writes says that milena writes to Topics while they are frozen. Then nothing may deny that to Principals.
	Writes bool
	// ClientIDs are milena's client ids. [Quota] needs them where milena's principal is that of other clients too.
	ClientIDs []string
	// Everyone says whether the brokers have allow.everyone.if.no.acl.found=true. Nil means that the cluster is asked; a broker does not tell
	// the value once the key is in its file, so that the answer may be unknown.
	Everyone *bool
}

// Row is a check of a plan.
type Row struct {
	Name string `json:"name"`
	// OK is false if the check forbids the freeze.
	OK bool `json:"ok"`
	// Detail says what was found; if not OK, why that forbids the freeze and what to do.
	Detail string `json:"detail"`
}

// Plan is what a freeze would do.
type Plan struct {
	// Memory is empty if a row is not OK.
	Memory Memory   `json:"memory"`
	Rows   []Row    `json:"rows"`
	Notes  []string `json:"notes,omitempty"`
}

// OK reports whether the freeze can be carried out.
func (p *Plan) OK() bool { return !slices.ContainsFunc(p.Rows, func(r Row) bool { return !r.OK }) }

func (p *Plan) ok(name, format string, args ...any) {
	p.Rows = append(p.Rows, Row{Name: name, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (p *Plan) refuse(name, format string, args ...any) {
	p.Rows = append(p.Rows, Row{Name: name, Detail: fmt.Sprintf(format, args...)})
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// Memory is all that [Freeze] does and [Thaw] takes back. It is to be kept, as JSON, before Freeze is called.
type Memory struct {
	Cluster string `json:"cluster"`
	Method  Method `json:"method"`
	// Principals are milena's; Writes says that they keep the right to write to the topics.
	Principals []string `json:"principals,omitempty"`
	Writes     bool     `json:"writes,omitempty"`
	ClientIDs  []string `json:"client_ids,omitempty"`
	// ACLs are those of the frozen topics, by topic. Topics with the same ACLs are in one element.
	ACLs []TopicACLs `json:"acls,omitempty"`
	// Quotas are the entities whose quota is changed.
	Quotas []EntityQuota `json:"quotas,omitempty"`
	// IdleSeconds is after how long the brokers close a connection that they have muted, 0 if never or not known.
	IdleSeconds int64 `json:"idle_seconds,omitempty"`
}

// NewPlan finds out what a freeze would do, and whether it can be done. It changes nothing. An error means that the cluster could not be asked.
func NewPlan(ctx context.Context, client *kgo.Client, o Options) (*Plan, error) {
	o.Topics = slices.Compact(slices.Sorted(slices.Values(o.Topics)))
	p := &Plan{}
	var err error
	switch o.Method {
	case ACL:
		err = planACLs(ctx, client, o, p)
	case Quota:
		err = planQuotas(ctx, client, o, p)
	case None:
		p.ok("freeze", "nothing stops the producers of cluster %s: stop them yourself before the switchover", o.Cluster)
		p.note("min.insync.replicas above the number of replicas is no freeze: since Kafka 4.0 a broker takes at most the number of replicas")
	default:
		return nil, unknownMethod(o.Method)
	}
	if err != nil {
		return nil, err
	}
	if !p.OK() {
		p.Memory = Memory{}
		return p, nil
	}
	p.Memory.Cluster, p.Memory.Method = o.Cluster, o.Method
	p.Memory.Principals, p.Memory.Writes, p.Memory.ClientIDs = o.Principals, o.Writes, o.ClientIDs
	return p, nil
}

func unknownMethod(m Method) error {
	return fmt.Errorf("freeze method %q: there are %s, %s and %s", string(m), ACL, Quota, None)
}

// Freeze carries out a plan, and returns once all brokers have it. It may be called again after it was broken off. If the cluster refuses a part or
// a request fails, everything is taken back. If ctx ends, what was done stays: call [Thaw].
func Freeze(ctx context.Context, client *kgo.Client, m Memory) error {
	var err error
	switch m.Method {
	case ACL:
		err = freezeACLs(ctx, client, m)
	case Quota:
		err = freezeQuotas(ctx, client, m)
	case None:
	default:
		return unknownMethod(m.Method)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if _, undo := Thaw(ctx, client, m); undo != nil {
		return fmt.Errorf("%w; and the freeze could not be taken back: %w", err, undo)
	}
	return fmt.Errorf("%w; the freeze was taken back", err)
}

// Thaw takes back what Memory lists and nothing else, however much of it was done. It may be called again. The notes say what was not as
// [Freeze] leaves it.
func Thaw(ctx context.Context, client *kgo.Client, m Memory) (notes []string, err error) {
	switch m.Method {
	case ACL:
		return thawACLs(ctx, client, m)
	case Quota:
		return thawQuotas(ctx, client, m)
	case None:
		return nil, nil
	}
	return nil, unknownMethod(m.Method)
}

// Holds returns an error that says what is not, or no longer, in force of a freeze: somebody took a part away, or allowed more. It changes
// nothing. That nothing is written any more, only the ends of the logs prove.
func Holds(ctx context.Context, client *kgo.Client, m Memory) error {
	switch m.Method {
	case ACL:
		return aclsHold(ctx, client, m)
	case Quota:
		return quotasHold(ctx, client, m)
	case None:
		return nil
	}
	return unknownMethod(m.Method)
}

// maxNamed is how many items a sentence names.
const maxNamed = 5

// named lists the first items of a list, and says how many more there are.
func named(items []string) string {
	if more := len(items) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:maxNamed], ", "), more)
	}
	return strings.Join(items, ", ")
}

// counted is a number of things.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
