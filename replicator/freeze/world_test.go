package freeze_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

const password = "correct horse battery staple"

// users can log in to a cluster; root is a super user.
var users = []string{"root", "milena", "alice", "bob", "carol", "erin", "frank"}

// world is a cluster with an authorizer on which nobody but root may do anything at first. Each test has a world of its own on the fake cluster,
// and names of its own on a real one.
type world struct {
	t      *testing.T
	fake   *kfake.Cluster // nil for a real cluster
	prefix string         // of all topics
	opts   []kgo.Opt
	root   *kgo.Client
	milena *kgo.Client
}

func fakeWorld(t *testing.T) *world {
	t.Helper()
	opts := []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "root", password), kfake.NumBrokers(2)}
	for _, user := range users[1:] {
		opts = append(opts, kfake.User("PLAIN", user, password))
	}
	cluster := kafkatest.New(t, opts...)
	return newWorld(t, &world{fake: cluster, opts: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}})
}

// realWorld is the cluster whose addresses are in the environment: e2e starts it and runs these tests.
func realWorld(t *testing.T, name string) *world {
	t.Helper()
	addrs, ca := os.Getenv("MILENA_FREEZE_"+name), os.Getenv("MILENA_FREEZE_CA")
	if addrs == "" {
		t.Skip("needs real brokers; run it with: MILENA_E2E=1 go test ./e2e -run 'TestFreeze$'")
	}
	pem, err := os.ReadFile(ca)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return newWorld(t, &world{opts: []kgo.Opt{kgo.SeedBrokers(strings.Split(addrs, ",")...), kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})}})
}

func newWorld(t *testing.T, w *world) *world {
	w.t, w.prefix = t, strings.NewReplacer("/", ".", "_", "-").Replace(t.Name())+"."
	w.root = w.login("root")
	t.Cleanup(w.clear)
	w.grant("ALLOW ALTER milena cluster", "ALLOW DESCRIBE_CONFIGS milena cluster", "ALLOW ALTER_CONFIGS milena cluster", "ALLOW READ milena +", "ALLOW WRITE milena +")
	w.milena = w.login("milena")
	return w
}

// clear deletes all ACLs, as the next world may be on the same cluster.
func (w *world) clear() {
	request, f := kmsg.NewPtrDeleteACLsRequest(), kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	f.Operation, f.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	request.Filters = append(request.Filters, f)
	response, err := request.RequestWith(context.WithoutCancel(w.t.Context()), w.root)
	if err != nil || response.Results[0].ErrorCode != 0 {
		w.t.Errorf("delete all ACLs: %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// login is a client of a user; idempotent writes would need a right more.
func (w *world) login(user string, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	all := slices.Concat(w.opts, []kgo.Opt{kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()), kgo.DisableClientMetrics(), kgo.ClientID("app-" + user)})
	cl, err := kgo.NewClient(append(all, opts...)...)
	check(w.t, err)
	w.t.Cleanup(cl.Close)
	return cl
}

func (w *world) create(topics ...string) {
	w.t.Helper()
	for _, topic := range topics {
		_, err := kadm.NewClient(w.root).CreateTopic(w.t.Context(), 1, 1, nil, w.prefix+topic)
		check(w.t, err)
	}
}

// grant creates bindings such as "ALLOW WRITE alice orders"; orders+ is a prefix, cluster the cluster, txn a transactional id.
func (w *world) grant(texts ...string) {
	w.t.Helper()
	request := kmsg.NewPtrCreateACLsRequest()
	for _, text := range texts {
		c := kmsg.NewCreateACLsRequestCreation()
		b := w.parse(text)
		c.ResourceType, c.ResourceName, c.ResourcePatternType, c.Principal, c.Host, c.Operation, c.PermissionType = b.ResourceType, *b.ResourceName, b.ResourcePatternType, *b.Principal, "*", b.Operation, b.PermissionType
		request.Creations = append(request.Creations, c)
	}
	response, err := request.RequestWith(w.t.Context(), w.root)
	check(w.t, err)
	for _, r := range response.Results {
		check(w.t, kerr.ErrorForCode(r.ErrorCode))
	}
	w.eventually("the ACLs are in force", func() string {
		all := w.acls()
		return strings.Join(slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return slices.Contains(all, w.full(text)) }), ", ")
	})
}

func (w *world) revoke(text string) {
	w.t.Helper()
	request := kmsg.NewPtrDeleteACLsRequest()
	request.Filters = append(request.Filters, w.parse(text))
	response, err := request.RequestWith(w.t.Context(), w.root)
	check(w.t, err)
	if n := len(response.Results[0].MatchingACLs); n != 1 {
		w.t.Fatalf("%s: %d deleted", text, n)
	}
	w.eventually("the ACL is gone", func() string {
		if slices.Contains(w.acls(), w.full(text)) {
			return text
		}
		return ""
	})
}

func (w *world) parse(text string) kmsg.DeleteACLsRequestFilter {
	w.t.Helper()
	words, f := strings.Fields(text), kmsg.NewDeleteACLsRequestFilter()
	name, prefixed := strings.CutSuffix(words[3], "+")
	var err error
	f.Operation, err = kmsg.ParseACLOperation(words[1])
	check(w.t, err)
	f.ResourceType, f.ResourcePatternType, f.PermissionType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLPermissionTypeAllow
	if name = w.prefix + name; name == w.prefix+"*" {
		name = "*"
	}
	switch {
	case prefixed:
		f.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
	case words[3] == "cluster":
		f.ResourceType, name = kmsg.ACLResourceTypeCluster, "kafka-cluster"
	case words[3] == "txn":
		f.ResourceType = kmsg.ACLResourceTypeTransactionalId
	}
	if words[0] == "DENY" {
		f.PermissionType = kmsg.ACLPermissionTypeDeny
	}
	f.ResourceName, f.Principal, f.Host = &name, kmsg.StringPtr("User:"+words[2]), kmsg.StringPtr("*")
	return f
}

func (w *world) full(text string) string {
	f := w.parse(text)
	return fmt.Sprintln(f.ResourceType, f.ResourcePatternType, *f.ResourceName, f.PermissionType, f.Operation, *f.Principal, *f.Host)
}

// acls are all ACLs of the cluster, of all resources, sorted, once all brokers agree on them.
func (w *world) acls() (all []string) {
	w.t.Helper()
	return w.agreed("ACLs", w.aclsOf)
}

// agreed is what each broker has, once all brokers agree on it.
func (w *world) agreed(what string, of func(broker int32) []string) (all []string) {
	w.t.Helper()
	metadata, err := kadm.NewClient(w.root).BrokerMetadata(w.t.Context())
	check(w.t, err)
	ids := metadata.Brokers.NodeIDs()
	w.eventually("the brokers agree on "+what, func() string {
		all = of(ids[0])
		for _, id := range ids[1:] {
			if diff := cmp.Diff(all, of(id)); diff != "" {
				return diff
			}
		}
		return ""
	})
	return all
}

// aclsOf are the ACLs that a broker has.
func (w *world) aclsOf(broker int32) (all []string) {
	w.t.Helper()
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	response, err := request.RequestWith(w.t.Context(), w.root.Broker(int(broker)))
	check(w.t, err)
	check(w.t, kerr.ErrorForCode(response.ErrorCode))
	for _, r := range response.Resources {
		for _, b := range r.ACLs {
			all = append(all, fmt.Sprintln(r.ResourceType, r.ResourcePatternType, r.ResourceName, b.PermissionType, b.Operation, b.Principal, b.Host))
		}
	}
	slices.Sort(all)
	return all
}

// sameACLs waits until the cluster has exactly these ACLs.
func (w *world) sameACLs(want []string) {
	w.t.Helper()
	w.eventually("the ACLs are as before", func() string { return cmp.Diff(want, w.acls()) })
}

// eventually waits until state is empty.
func (w *world) eventually(what string, state func() string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s := state()
		if s == "" {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			w.t.Fatalf("not in 20 s: %s; last: %s", what, s)
		}
	}
}

// produce writes a record and returns the broker's answer.
func (w *world) produce(cl *kgo.Client, topic string) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: w.prefix + topic, Value: []byte("a value")}).FirstErr()
}

func (w *world) writes(cl *kgo.Client, topics ...string) {
	w.t.Helper()
	for _, topic := range topics {
		if err := w.produce(cl, topic); err != nil {
			w.t.Errorf("write to %s: %v", topic, err)
		}
	}
}

func (w *world) refused(cl *kgo.Client, topics ...string) {
	w.t.Helper()
	for _, topic := range topics {
		if err := w.produce(cl, topic); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			w.t.Errorf("write to %s, which is frozen: %v", topic, err)
		}
	}
}

// reads fetches a topic up to its end.
func (w *world) reads(cl *kgo.Client, topic string) {
	w.t.Helper()
	ends, err := kadm.NewClient(w.root).ListEndOffsets(w.t.Context(), w.prefix+topic)
	check(w.t, err)
	end, _ := ends.Lookup(w.prefix+topic, 0)
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	cl.AddConsumeTopics(w.prefix + topic)
	defer cl.PurgeTopicsFromConsuming(w.prefix + topic)
	for got := int64(0); got < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Errorf("read %s up to %d of %d: %v", topic, got, end.Offset, err)
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { got = r.Offset + 1 })
	}
}

func (w *world) options(method freeze.Method, topics ...string) freeze.Options {
	o := freeze.Options{Cluster: "east", Method: method, Principals: []string{"User:milena"}}
	for _, topic := range topics {
		o.Topics = append(o.Topics, w.prefix+topic)
	}
	return o
}

// plan returns what is to be remembered, after it was written down and read again.
func (w *world) plan(o freeze.Options) freeze.Memory {
	w.t.Helper()
	p, err := freeze.NewPlan(w.t.Context(), w.milena, o)
	check(w.t, err)
	if !p.OK() {
		w.t.Fatalf("refused: %+v", p.Rows)
	}
	for _, r := range p.Rows {
		w.t.Logf("ok  %s: %s", r.Name, r.Detail)
	}
	for _, n := range p.Notes {
		w.t.Log("note", n)
	}
	text, err := json.Marshal(p.Memory)
	check(w.t, err)
	var m freeze.Memory
	check(w.t, json.Unmarshal(text, &m))
	if diff := cmp.Diff(p.Memory, m); diff != "" {
		w.t.Fatalf("JSON loses something:\n%s", diff)
	}
	return m
}

// thaw takes a freeze back, as another process would.
func (w *world) thaw(m freeze.Memory) []string {
	w.t.Helper()
	notes, err := freeze.Thaw(w.t.Context(), w.login("milena"), m)
	check(w.t, err)
	return notes
}
