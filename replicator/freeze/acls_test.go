package freeze_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/freeze"
)

// stories are told of a fake cluster and of a real one.
var stories = map[string]func(*world){
	"all but milena are refused":             allButMilena,
	"everyone is refused":                    everyoneIsRefused,
	"broken off":                             brokenOff,
	"somebody changes ACLs meanwhile":        changedMeanwhile,
	"what exists stays":                      whatExistsStays,
	"a wrong principal is seen":              wrongPrincipal,
	"milena is a super user":                 superUser,
	"quotas are put back as they were":       quotasArePutBack,
	"somebody changes quotas meanwhile":      quotasChangedMeanwhile,
	"an open transaction can still be ended": openTransaction,
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	for name, tell := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(fakeWorld(t))
		})
	}
}

// TestReal tells the stories of real brokers, one after the other: quotas are for the whole cluster.
func TestReal(t *testing.T) {
	for name, tell := range stories {
		t.Run(name, func(t *testing.T) { tell(realWorld(t, "BROKERS")) })
	}
}

// unsafe is for a producer that may start while its topics are frozen: an idempotent one is refused already at InitProducerId.
func unsafe() kgo.Opt { return kgo.DisableIdempotentWrite() }

func allButMilena(w *world) {
	w.create("orders", "stock")
	w.grant("ALLOW WRITE alice orders", "ALLOW READ alice orders", "ALLOW ALL bob or+", "ALLOW WRITE carol *", "ALLOW READ erin +")
	before := w.acls()
	alice, bob, carol, erin := w.login("alice", unsafe()), w.login("bob"), w.login("carol", unsafe()), w.login("erin")
	w.writes(alice, "orders")
	w.writes(bob, "orders")
	w.writes(carol, "orders", "stock")
	o := w.options(freeze.ACL, "orders", "stock")
	o.Writes = true
	m := w.plan(o)
	w.sameACLs(before)

	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.refused(alice, "orders")
	w.refused(bob, "orders")
	w.refused(carol, "orders", "stock")
	w.writes(w.milena, "orders", "stock")
	w.writes(w.root, "orders", "stock") // super users pass
	w.reads(erin, "orders")
	w.reads(alice, "orders")
	check(w.t, freeze.Holds(w.t.Context(), w.milena, m))
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m)) // again

	if notes := w.thaw(m); len(notes) > 0 {
		w.t.Errorf("notes %q", notes)
	}
	w.sameACLs(before)
	w.eventually("alice writes again", func() string {
		if err := w.produce(alice, "orders"); err != nil {
			return err.Error()
		}
		return ""
	})
	w.writes(carol, "orders", "stock")
	if notes := w.thaw(m); len(notes) != 1 || !strings.Contains(notes[0], "4 of 4 ACLs of the freeze of cluster east were not there") {
		w.t.Errorf("a second thaw says %q", notes)
	}
	w.sameACLs(before)
}

// If milena need not write, also who gets the right to write later is refused.
func everyoneIsRefused(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders", "ALLOW READ erin or+")
	before := w.acls()
	alice := w.login("alice", unsafe())
	w.writes(alice, "orders")
	m := w.plan(w.options(freeze.ACL, "orders"))
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.refused(alice, "orders")
	w.refused(w.milena, "orders")
	w.reads(w.login("erin"), "orders")
	w.grant("ALLOW WRITE frank orders")
	w.refused(w.login("frank", unsafe()), "orders")
	if w.fake == nil { // the fake cluster looks at ALLOW only
		if err := w.produce(w.login("frank"), "orders"); !errors.Is(err, kerr.ClusterAuthorizationFailed) {
			w.t.Errorf("an idempotent producer starts: %v", err)
		}
	}
	check(w.t, freeze.Holds(w.t.Context(), w.milena, m))
	w.thaw(m)
	w.revoke("ALLOW WRITE frank orders")
	w.sameACLs(before)
}

// stopAfter ends a context at the n-th answer to a request for this key.
type stopAfter struct {
	key  kmsg.Key
	n    int
	stop context.CancelFunc
}

func (s *stopAfter) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == s.key {
		if s.n--; s.n == 0 {
			s.stop()
		}
	}
}

var _ kgo.HookBrokerRead = (*stopAfter)(nil)

// A process that is killed between two requests leaves a part of the freeze, which another one takes back.
func brokenOff(w *world) {
	before := w.acls()
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprintf("t%04d", i))
	}
	m := w.plan(w.options(freeze.ACL, names...))
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	killed := w.login("milena", kgo.WithHooks(&stopAfter{kmsg.CreateACLs, 2, cancel}))
	if err := freeze.Freeze(ctx, killed, m); err == nil {
		w.t.Fatal("the freeze was not broken off")
	}
	w.eventually("a part of the ACLs is there", func() string {
		if n := len(w.acls()) - len(before); n != 1000 {
			return fmt.Sprintf("%d ACLs, want 1000", n)
		}
		return ""
	})
	if notes := w.thaw(m); len(notes) != 1 || !strings.Contains(notes[0], "200 of 1200 ACLs") {
		w.t.Errorf("notes %q", notes)
	}
	w.sameACLs(before)

	start := time.Now()
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.t.Logf("1,200 topics were frozen in %.2f s", time.Since(start).Seconds())
	start = time.Now()
	if notes := w.thaw(m); len(notes) > 0 {
		w.t.Errorf("notes %q", notes)
	}
	w.t.Logf("and taken back in %.2f s", time.Since(start).Seconds())
	w.sameACLs(before)
}

func changedMeanwhile(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders", "ALLOW WRITE bob or+")
	before := w.acls()
	o := w.options(freeze.ACL, "orders")
	o.Writes = true
	m := w.plan(o)
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))

	w.grant("ALLOW WRITE frank orders")
	w.broken(m, "somebody allowed more since: User:frank may write to topic "+w.prefix+"orders")
	w.revoke("ALLOW WRITE frank orders")
	check(w.t, freeze.Holds(w.t.Context(), w.milena, m))

	w.revoke("DENY WRITE alice orders")
	w.grant("ALLOW READ frank orders")
	w.broken(m, "missing is DENY WRITE to User:alice on topic "+w.prefix+"orders")
	notes := w.thaw(m)
	if len(notes) != 1 || !strings.Contains(notes[0], "1 of 2 ACLs") || !strings.Contains(notes[0], "DENY WRITE to User:alice") {
		w.t.Errorf("notes %q", notes)
	}
	w.revoke("ALLOW READ frank orders")
	w.sameACLs(before)
}

// broken checks that the freeze holds no longer. A broker may be behind.
func (w *world) broken(m freeze.Memory, want string) {
	w.t.Helper()
	w.eventually("it is seen that the freeze holds no longer", func() string {
		if err := freeze.Holds(w.t.Context(), w.milena, m); err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Sprintf("%v, want %s", err, want)
		}
		return ""
	})
}

func whatExistsStays(w *world) {
	w.create("orders", "stock")
	w.grant("ALLOW WRITE alice orders", "DENY WRITE * orders")
	before := w.acls()
	m := w.plan(w.options(freeze.ACL, "orders", "stock"))
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	if n := len(w.acls()) - len(before); n != 1 {
		w.t.Errorf("%d ACLs more, want 1", n)
	}
	w.thaw(m)
	w.sameACLs(before)
	// It belongs to the freeze all the same.
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.revoke("DENY WRITE * orders")
	w.broken(m, "missing is DENY WRITE to User:* on topic "+w.prefix+"orders")
	w.grant("DENY WRITE * orders")
	w.thaw(m)
	w.sameACLs(before)
}

// A principal that is not milena's makes the freeze stop milena. It is taken back at once.
func wrongPrincipal(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders")
	before := w.acls()
	o := w.options(freeze.ACL, "orders")
	o.Writes, o.Principals = true, []string{"User:CN=milena"}
	m := w.plan(o)
	err := freeze.Freeze(w.t.Context(), w.milena, m)
	if err == nil || !strings.Contains(err.Error(), "is its principal there really User:CN=milena?; the freeze was taken back") {
		w.t.Errorf("err = %v", err)
	}
	w.sameACLs(before)
	w.eventually("milena writes", func() string {
		if err := w.produce(w.milena, "orders"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// A super user writes whatever is denied, so that WRITE can be denied to everyone.
func superUser(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders")
	before := w.acls()
	o := w.options(freeze.ACL, "orders")
	o.Writes, o.Principals, w.milena = true, []string{"User:root"}, w.root
	m := w.plan(o)
	if got := m.ACLs[0].Create; len(got) != 1 || got[0].Principal != "User:*" {
		w.t.Errorf("plan %+v", m.ACLs)
	}
	check(w.t, freeze.Freeze(w.t.Context(), w.root, m))
	w.refused(w.login("alice", unsafe()), "orders")
	w.writes(w.root, "orders")
	check(w.t, freeze.Holds(w.t.Context(), w.root, m))
	w.thaw(m)
	w.sameACLs(before)
}

// Who has a transaction open cannot write to it any more, and can end it.
func openTransaction(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders", "ALLOW WRITE alice txn")
	alice := w.login("alice", kgo.TransactionalID(w.prefix+"txn"))
	check(w.t, alice.BeginTransaction())
	w.writes(alice, "orders")
	m := w.plan(w.options(freeze.ACL, "orders"))
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	check(w.t, alice.EndTransaction(w.t.Context(), kgo.TryCommit))
	check(w.t, alice.BeginTransaction())
	w.refused(alice, "orders")
	check(w.t, alice.EndTransaction(w.t.Context(), kgo.TryAbort))
	w.thaw(m)
}

// A binding that the cluster refuses takes back the whole freeze.
func TestFreeze_aRefusedPartTakesAllBack(t *testing.T) {
	t.Parallel()
	w := fakeWorld(t)
	before := w.acls()
	m := w.plan(w.options(freeze.ACL, "a", "b", "c"))
	w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateACLs}, Resource: w.prefix + "b", Err: kerr.InvalidRequest, Count: -1})
	err := freeze.Freeze(t.Context(), w.milena, m)
	if err == nil || !strings.Contains(err.Error(), "cluster east refuses DENY WRITE to User:* on topic "+w.prefix+"b") || !strings.Contains(err.Error(), "the freeze was taken back") {
		t.Errorf("err = %v", err)
	}
	w.sameACLs(before)
}

func TestNewPlan_refuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		method freeze.Method
		before func(*world)
		want   string
	}{
		{"a cluster without authorizer", freeze.ACL, func(w *world) {
			w.fake.ControlKey(int16(kmsg.DescribeACLs), func(request kmsg.Request) (kmsg.Response, error, bool) {
				w.fake.KeepControl()
				answer := request.ResponseKind().(*kmsg.DescribeACLsResponse)
				answer.ErrorCode = kerr.SecurityDisabled.Code
				return answer, nil, true
			})
		}, "cluster east has no authorizer (authorizer.class.name is empty), so ACLs stop nobody; use --freeze quota"},
		{"no right to change ACLs", freeze.ACL, func(w *world) {
			w.grant("ALLOW DESCRIBE milena cluster")
			w.revoke("ALLOW ALTER milena cluster")
		}, "grant ALTER on the cluster to milena's user"},
		{"no right to read ACLs", freeze.ACL, func(w *world) { w.revoke("ALLOW ALTER milena cluster") }, "grant DESCRIBE and ALTER on the cluster to milena's user"},
		{"no right to change quotas", freeze.Quota, func(w *world) { w.revoke("ALLOW ALTER_CONFIGS milena cluster") }, "grant ALTER_CONFIGS on the cluster to milena's user"},
		{"no right to read quotas", freeze.Quota, func(w *world) {
			w.revoke("ALLOW ALTER_CONFIGS milena cluster")
			w.revoke("ALLOW DESCRIBE_CONFIGS milena cluster")
		}, "grant DESCRIBE_CONFIGS and ALTER_CONFIGS on the cluster to milena's user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := fakeWorld(t)
			c.before(w)
			p, err := freeze.NewPlan(t.Context(), w.milena, w.options(c.method, "orders"))
			check(t, err)
			if said := fmt.Sprint(p.Rows); p.OK() || !strings.Contains(said, c.want) || p.Memory.Method != "" {
				t.Errorf("want %q, got %s, memory %+v", c.want, said, p.Memory)
			}
		})
	}
}

func TestNone_changesNothing(t *testing.T) {
	t.Parallel()
	w := fakeWorld(t)
	before := w.acls()
	m := w.plan(w.options(freeze.None, "orders"))
	check(t, freeze.Freeze(t.Context(), w.milena, m))
	check(t, freeze.Holds(t.Context(), w.milena, m))
	w.thaw(m)
	w.sameACLs(before)
	if _, err := freeze.NewPlan(t.Context(), w.milena, w.options("fence", "orders")); err == nil || !strings.Contains(err.Error(), `freeze method "fence": there are acl, quota and none`) {
		t.Errorf("err = %v", err)
	}
	if err := freeze.Freeze(t.Context(), w.milena, freeze.Memory{}); err == nil {
		t.Error("an empty memory is carried out")
	}
}

// openWorld is a real cluster with allow.everyone.if.no.acl.found=true. The topic guarded has an ACL that shows that milena is no super user.
func openWorld(t *testing.T) *world {
	t.Helper()
	w := realWorld(t, "OPEN")
	w.create("free", "guarded")
	w.grant("ALLOW READ erin guarded")
	w.revoke("ALLOW READ milena +")
	w.revoke("ALLOW WRITE milena +")
	return w
}

// Whether topics without ACLs are open is hidden. The first ACL of one would take away READ from everyone; readers go on all the same.
func TestRealOpen(t *testing.T) {
	w := openWorld(t)
	before := w.acls()
	bob, erin := w.login("bob"), w.login("erin")
	w.writes(bob, "free")
	w.reads(erin, "free")

	// Milena alone cannot be told from a super user.
	p, err := freeze.NewPlan(t.Context(), w.milena, w.options(freeze.ACL, "free"))
	check(t, err)
	if said := fmt.Sprint(p.Rows); p.OK() || !strings.Contains(said, "The brokers do not tell whether allow.everyone.if.no.acl.found is true") {
		t.Errorf("rows %s", said)
	}

	m := w.plan(w.options(freeze.ACL, "free", "guarded"))
	check(t, freeze.Freeze(t.Context(), w.milena, m))
	w.refused(bob, "free")
	w.refused(w.milena, "free")
	w.reads(erin, "free")
	check(t, freeze.Holds(t.Context(), w.milena, m))
	w.thaw(m)
	w.sameACLs(before)

	o := w.options(freeze.ACL, "free")
	open := true
	o.Writes, o.Everyone = true, &open
	m = w.plan(o)
	w.eventually("bob writes", func() string {
		if err := w.produce(bob, "free"); err != nil {
			return err.Error()
		}
		return ""
	})
	check(t, freeze.Freeze(t.Context(), w.milena, m))
	w.refused(bob, "free")
	w.writes(w.milena, "free")
	w.reads(w.login("erin"), "free")
	check(t, freeze.Holds(t.Context(), w.milena, m))
	w.grant("ALLOW WRITE frank free")
	w.broken(m, "User:frank may write")
	w.revoke("ALLOW WRITE frank free")
	w.thaw(m)
	w.sameACLs(before)
}
