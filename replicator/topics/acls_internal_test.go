package topics

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator/kafkatest"
)

// aclsTest syncs the ACLs of one flow from primary to dr between two fake clusters, one sync per call.
type aclsTest struct {
	*topicsTest
	acls    *ACLs
	changes map[string]int
}

func newACLsTest(t *testing.T, change func(*config.Flow)) *aclsTest {
	t.Helper()
	test := &aclsTest{changes: map[string]int{}}
	test.topicsTest = newTopicsTest(t, func(f *config.Flow) {
		if f.ACLs = true; change != nil {
			change(f)
		}
	})
	test.acls = NewACLs(test.Syncer, func(change string) { test.changes[change]++ })
	return test
}

func always() bool { return true }

func (test *aclsTest) onTarget() []string {
	test.t.Helper()
	list, _, err := describeACLs(test.t.Context(), test.Syncer.target, "dr")
	if err != nil {
		test.t.Fatal(err)
	}
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	slices.Sort(texts)
	return texts
}

func (test *aclsTest) sync() {
	test.t.Helper()
	if err := test.acls.Sync(test.t.Context(), nil, always); err != nil {
		test.t.Fatal(err)
	}
}

func TestACLs_onlyDifferencesAreSent(t *testing.T) {
	test := newACLsTest(t, nil)
	source, target := test.Syncer.source, test.Syncer.target
	test.create(test.source, "orders", 1, nil)
	kafkatest.Grant(t, source, "ALLOW", "ALL", "alice", "orders")
	kafkatest.Grant(t, source, "DENY", "READ", "bob", "ord+")
	kafkatest.Grant(t, source, "ALLOW", "WRITE", "producer", "orders")
	kafkatest.Grant(t, target, "ALLOW", "READ", "carol", "primary.orders")
	creates := test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateACLs}, Observe: true, Count: -1})
	deletes := test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DeleteACLs}, Observe: true, Count: -1})

	test.sync()
	want := []string{
		"ALLOW READ to User:alice on topic primary.orders", "ALLOW READ to User:carol on topic primary.orders",
		"DENY READ to User:bob on topics with prefix primary.ord",
	}
	if diff := cmp.Diff(want, test.onTarget()); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(test.log.String(), "ACL created, as on the source"); n != 2 || test.changes["created"] != 2 {
		t.Errorf("want two changes with one line each, %d are counted:\n%s", test.changes["created"], test.log.String())
	}
	if s := test.acls.Status(); s.InStep != 2 || s.Created != 2 || s.LastPass.IsZero() || len(s.Problems) > 0 {
		t.Errorf("status %+v", s)
	}
	hits := creates.Hits()
	test.sync()
	if creates.Hits() != hits || deletes.Hits() != 0 {
		t.Errorf("a second sync sent %d creations, %d deletions", creates.Hits()-hits, deletes.Hits())
	}
	if s := test.acls.Status(); s.InStep != 2 || s.Created != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestACLs_areDeletedOnlyIfConfigured(t *testing.T) {
	test := newACLsTest(t, nil)
	source, target := test.Syncer.source, test.Syncer.target
	test.create(test.source, "orders", 1, nil)
	test.create(test.target, "local", 1, nil)
	kafkatest.Grant(t, source, "ALLOW", "READ", "alice", "orders")
	kafkatest.Grant(t, source, "ALLOW", "READ", "bob", "orders")
	for _, topic := range []string{"local", "*", "prim+"} {
		kafkatest.Grant(t, target, "ALLOW", "READ", "bob", topic)
	}
	before := test.onTarget()
	test.sync()
	kafkatest.Revoke(t, source, "bob")
	test.sync()
	if !slices.Contains(test.onTarget(), "ALLOW READ to User:bob on topic primary.orders") {
		t.Error("an ACL that was revoked on the source is deleted, though acls_delete is off")
	}
	test.acls.flow.ACLsDelete = true
	test.sync()
	want := append(slices.Clone(before), "ALLOW READ to User:alice on topic primary.orders")
	slices.Sort(want)
	if diff := cmp.Diff(want, test.onTarget()); diff != "" {
		t.Error(diff)
	}
	if test.changes["deleted"] != 1 || strings.Count(test.log.String(), "ACL deleted, as on the source") != 1 {
		t.Errorf("want one deletion, %d are counted:\n%s", test.changes["deleted"], test.log.String())
	}
}

func TestACLs_oneBadBinding(t *testing.T) {
	test := newACLsTest(t, nil)
	for _, topic := range []string{"good", "bad", "last"} {
		test.create(test.source, topic, 1, nil)
		kafkatest.Grant(t, test.Syncer.source, "ALLOW", "READ", "alice", topic)
	}
	test.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateACLs}, Resource: "primary.bad", Err: kerr.InvalidRequest, Count: -1})
	for range 3 {
		test.sync()
	}
	want := []string{"ALLOW READ to User:alice on topic primary.good", "ALLOW READ to User:alice on topic primary.last"}
	if diff := cmp.Diff(want, test.onTarget()); diff != "" {
		t.Error(diff)
	}
	if test.changes["refused"] != 1 || strings.Count(test.log.String(), "ACL is refused") != 1 {
		t.Errorf("refused in each of three syncs, want 1 counted, got %d:\n%s", test.changes["refused"], test.log.String())
	}
	s := test.acls.Status()
	if s.Refused != 1 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "ALLOW READ to User:alice on topic primary.bad") {
		t.Errorf("status %+v", s)
	}
}

// A lasting problem is logged once and is in every status.
func TestACLs_cannotBeCopied(t *testing.T) {
	for _, c := range []struct {
		name   string
		side   func(*aclsTest) *kfake.Cluster
		answer func(kmsg.Request) kmsg.Response
		key    kmsg.Key
		want   string
		failed bool
	}{
		{
			name: "a source without authorizer", side: func(test *aclsTest) *kfake.Cluster { return test.source }, key: kmsg.DescribeACLs,
			answer: describeAnswer(kerr.SecurityDisabled), want: "ACLs are not copied: cluster primary has no authorizer",
		},
		{
			name: "a target without authorizer", side: func(test *aclsTest) *kfake.Cluster { return test.target }, key: kmsg.DescribeACLs,
			answer: describeAnswer(kerr.SecurityDisabled), want: "ACLs are not copied: cluster dr has no authorizer",
		},
		{
			name: "no right to describe", side: func(test *aclsTest) *kfake.Cluster { return test.source }, key: kmsg.DescribeACLs, failed: true,
			answer: describeAnswer(kerr.ClusterAuthorizationFailed), want: "describe ACLs on cluster primary: not allowed; grant DESCRIBE on the cluster to milena's user",
		},
		{
			name: "no right to create", side: func(test *aclsTest) *kfake.Cluster { return test.target }, key: kmsg.CreateACLs, failed: true,
			answer: func(request kmsg.Request) kmsg.Response {
				answer := request.ResponseKind().(*kmsg.CreateACLsResponse)
				for range request.(*kmsg.CreateACLsRequest).Creations {
					result := kmsg.NewCreateACLsResponseResult()
					result.ErrorCode = kerr.ClusterAuthorizationFailed.Code
					answer.Results = append(answer.Results, result)
				}
				return answer
			},
			want: "create ACLs on cluster dr: not allowed; grant ALTER on the cluster to milena's user",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newACLsTest(t, nil)
			test.create(test.source, "orders", 1, nil)
			kafkatest.Grant(t, test.Syncer.source, "ALLOW", "READ", "alice", "orders")
			cluster := c.side(test)
			cluster.ControlKey(int16(c.key), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				return c.answer(request), nil, true
			})
			for range 3 {
				if err := test.acls.Sync(t.Context(), nil, always); (err != nil) != c.failed {
					t.Errorf("err = %v", err)
				}
				s := test.acls.Status()
				if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], c.want) {
					t.Errorf("status %+v", s)
				}
			}
			if n := strings.Count(test.log.String(), "\n"); n != 1 || !strings.Contains(test.log.String(), c.want) {
				t.Errorf("three syncs logged %d lines:\n%s", n, test.log.String())
			}
		})
	}
}

func describeAnswer(err *kerr.Error) func(kmsg.Request) kmsg.Response {
	return func(request kmsg.Request) kmsg.Response {
		answer := request.ResponseKind().(*kmsg.DescribeACLsResponse)
		answer.ErrorCode = err.Code
		return answer
	}
}

func TestACLs_manyInOneSync(t *testing.T) {
	test := newACLsTest(t, nil)
	test.create(test.source, "orders", 1, nil)
	b := kadm.NewACLs().Topics("orders").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).AllowHosts("*")
	var users []string
	for i := range 2*aclsPerRequest + 1 {
		users = append(users, fmt.Sprintf("User:u%d", i))
	}
	if _, err := kadm.NewClient(test.Syncer.source).CreateACLs(t.Context(), b.Allow(users...)); err != nil {
		t.Fatal(err)
	}
	test.sync()
	if n := len(test.onTarget()); n != len(users) {
		t.Errorf("%d of %d ACLs are on the target", n, len(users))
	}
	// A sync ends once another instance has taken over.
	other := newACLsTest(t, nil)
	other.create(other.source, "orders", 1, nil)
	kafkatest.Grant(t, other.Syncer.source, "ALLOW", "READ", "alice", "orders")
	if err := other.acls.Sync(t.Context(), nil, func() bool { return false }); err != nil || len(other.onTarget()) > 0 {
		t.Errorf("err = %v, target has %v", err, other.onTarget())
	}
}

// Without a prefix, an unrelated topic of the same name on the target keeps its own ACLs.
func TestACLs_nameClashesAreNotCopies(t *testing.T) {
	test := newACLsTest(t, func(f *config.Flow) { f.Naming = config.NamingIdentity })
	for _, topic := range []string{"orders-eu", "orders-us"} {
		test.create(test.source, topic, 1, nil)
		test.create(test.target, topic, 1, nil)
	}
	kafkatest.Grant(t, test.Syncer.source, "ALLOW", "READ", "alice", "orders-+")
	if err := test.acls.Sync(t.Context(), map[string]bool{"orders-us": true}, always); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ALLOW READ to User:alice on topic orders-eu"}, test.onTarget()); diff != "" {
		t.Error(diff)
	}
	if s := test.acls.Status(); len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "such as orders-us") {
		t.Errorf("status %+v", s)
	}
}
