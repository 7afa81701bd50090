package freeze_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/replicator/freeze"
)

// set sets the rate of an entity such as "user=alice,client-id=", whose empty part is the default; 0 removes it.
func (w *world) set(entity, key string, rate float64) {
	w.t.Helper()
	var e kadm.ClientQuotaEntity
	for part := range strings.SplitSeq(entity, ",") {
		kind, name, _ := strings.Cut(part, "=")
		c := kadm.ClientQuotaEntityComponent{Type: kind}
		if name != "" {
			c.Name = &name
		}
		e = append(e, c)
	}
	done, err := kadm.NewClient(w.root).AlterClientQuotas(w.t.Context(), []kadm.AlterClientQuotaEntry{{Entity: e, Ops: []kadm.AlterClientQuotaOp{{Key: key, Value: rate, Remove: rate == 0}}}})
	check(w.t, err)
	for _, d := range done {
		check(w.t, d.Err)
	}
	w.eventually("the quota is in force", func() string {
		has := slices.Contains(w.quotas(), fmt.Sprintf("%s %s=%g", entity, key, rate))
		gone := rate == 0 && !slices.ContainsFunc(w.quotas(), func(q string) bool { return strings.HasPrefix(q, entity+" "+key+"=") })
		if has || gone {
			return ""
		}
		return fmt.Sprint(w.quotas())
	})
}

// quotas are all quotas of the cluster, as "user=alice,client-id= producer_byte_rate=1", sorted, once all brokers agree on them.
func (w *world) quotas() (all []string) {
	w.t.Helper()
	return w.agreed("quotas", w.quotasOf)
}

// quotasOf are the quotas that a broker has.
func (w *world) quotasOf(broker int32) (all []string) {
	w.t.Helper()
	response, err := kmsg.NewPtrDescribeClientQuotasRequest().RequestWith(w.t.Context(), w.root.Broker(int(broker)))
	check(w.t, err)
	for _, entry := range response.Entries {
		var parts []string
		for _, e := range entry.Entity {
			name := ""
			if e.Name != nil {
				name = *e.Name
			}
			parts = append(parts, e.Type+"="+name)
		}
		slices.Sort(parts)
		slices.Reverse(parts)
		for _, v := range entry.Values {
			all = append(all, fmt.Sprintf("%s %s=%g", strings.Join(parts, ","), v.Key, v.Value))
		}
	}
	slices.Sort(all)
	return all
}

func (w *world) sameQuotas(want []string) {
	w.t.Helper()
	slices.Sort(want)
	w.eventually("the quotas are as expected", func() string { return cmp.Diff(want, w.quotas()) })
}

// explicitQuotas sets quotas of all kinds, which end with the test.
func (w *world) explicitQuotas() {
	w.t.Helper()
	for entity, rate := range map[string]float64{"user=alice": 5e6, "user=,client-id=app-bob": 4e6, "client-id=": 3e6, "client-id=app-carol": 2e6} {
		w.set(entity, "producer_byte_rate", rate)
	}
	w.set("user=,client-id=", "consumer_byte_rate", 7e6)
	w.set("user=alice", "consumer_byte_rate", 6e6)
	w.t.Cleanup(func() {
		for _, entity := range []string{"user=alice", "user=,client-id=app-bob", "client-id=", "client-id=app-carol", "user=,client-id=", "user=milena,client-id="} {
			for _, key := range []string{"producer_byte_rate", "consumer_byte_rate"} {
				_ = w.remove(entity, key)
			}
		}
	})
}

// remove removes a quota after the test has ended.
func (w *world) remove(entity, key string) error {
	request := kmsg.NewPtrAlterClientQuotasRequest()
	e := kmsg.NewAlterClientQuotasRequestEntry()
	for part := range strings.SplitSeq(entity, ",") {
		kind, name, _ := strings.Cut(part, "=")
		c := kmsg.NewAlterClientQuotasRequestEntryEntity()
		if c.Type = kind; name != "" {
			c.Name = &name
		}
		e.Entity = append(e.Entity, c)
	}
	e.Ops = append(e.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Remove: true})
	request.Entries = append(request.Entries, e)
	_, err := request.RequestWith(context.WithoutCancel(w.t.Context()), w.root)
	return err
}

// throttled tells how long a broker throttles a client.
type throttled chan time.Duration

func (c throttled) OnBrokerThrottle(_ kgo.BrokerMetadata, d time.Duration, _ bool) {
	select {
	case c <- d:
	default:
	}
}

func quotasArePutBack(w *world) {
	w.create("orders")
	w.grant("ALLOW WRITE alice orders", "ALLOW WRITE bob orders", "ALLOW WRITE carol orders")
	w.explicitQuotas()
	before := w.quotas()
	m := w.plan(w.options(freeze.Quota, "orders"))
	w.sameQuotas(before)

	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.sameQuotas([]string{
		"user=,client-id= producer_byte_rate=1", "user=,client-id= consumer_byte_rate=7e+06", "user=alice producer_byte_rate=1", "user=alice consumer_byte_rate=6e+06",
		"user=,client-id=app-bob producer_byte_rate=1", "client-id= producer_byte_rate=3e+06", "client-id=app-carol producer_byte_rate=2e+06", "user=milena,client-id= producer_byte_rate=3e+06",
	})
	check(w.t, freeze.Holds(w.t.Context(), w.milena, m))
	if w.fake == nil { // the fake cluster does not throttle
		for _, user := range []string{"alice", "bob", "carol"} {
			muted := make(throttled, 1)
			w.writes(w.login(user, unsafe(), kgo.WithHooks(muted)), "orders") // the first request is appended
			select {
			case d := <-muted:
				w.t.Logf("%s is muted for %v after %d bytes", user, d, len("a value"))
			case <-time.After(10 * time.Second):
				w.t.Errorf("%s is not throttled", user)
			}
		}
		muted := make(throttled, 1)
		milena := w.login("milena", kgo.WithHooks(muted))
		w.writes(milena, "orders", "orders", "orders")
		if len(muted) > 0 {
			w.t.Errorf("milena is throttled for %v", <-muted)
		}
	}
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m)) // again
	if notes := w.thaw(m); len(notes) > 0 {
		w.t.Errorf("notes %q", notes)
	}
	w.sameQuotas(before)
	if notes := w.thaw(m); len(notes) > 0 {
		w.t.Errorf("notes of a second thaw %q", notes)
	}
	w.sameQuotas(before)
}

func quotasChangedMeanwhile(w *world) {
	w.explicitQuotas()
	before := w.quotas()
	m := w.plan(w.options(freeze.Quota))
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, m))
	w.set("user=alice", "producer_byte_rate", 8e6)
	w.broken(m, "user alice has 8e+06 B/s")
	w.set("user=bob", "producer_byte_rate", 9e6)
	w.broken(m, "user bob has 9e+06 B/s")
	w.set("user=bob", "producer_byte_rate", 0)
	notes := w.thaw(m)
	if len(notes) != 1 || !strings.Contains(notes[0], "somebody changed the quota of user alice on cluster east to 8e+06 B/s since; it stays so (before the freeze: 5e+06 B/s)") {
		w.t.Errorf("notes %q", notes)
	}
	w.set("user=alice", "producer_byte_rate", 5e6)
	w.sameQuotas(before)
	// Half of the freeze was done.
	half := m
	half.Quotas = m.Quotas[:1]
	check(w.t, freeze.Freeze(w.t.Context(), w.milena, half))
	if notes := w.thaw(m); len(notes) > 0 {
		w.t.Errorf("notes %q", notes)
	}
	w.sameQuotas(before)
}

// Where nobody logs in, milena is told from others by its client ids.
func TestQuota_clientsThatDoNotLogIn(t *testing.T) {
	t.Parallel()
	w := fakeWorld(t)
	o := w.options(freeze.Quota)
	o.Principals = []string{"User:ANONYMOUS"}
	p, err := freeze.NewPlan(t.Context(), w.milena, o)
	check(t, err)
	if said := fmt.Sprint(p.Rows); p.OK() || !strings.Contains(said, "name its client ids") {
		t.Errorf("rows %s", said)
	}
	o.ClientIDs = []string{"milena"}
	w.set("user=ANONYMOUS", "producer_byte_rate", 5e6)
	before := w.quotas()
	m := w.plan(o)
	check(t, freeze.Freeze(t.Context(), w.milena, m))
	w.sameQuotas([]string{"user=,client-id= producer_byte_rate=1", "user=ANONYMOUS producer_byte_rate=1", "user=ANONYMOUS,client-id=milena producer_byte_rate=5e+06"})
	w.set("user=ANONYMOUS,client-id=other", "producer_byte_rate", 9e6)
	w.broken(m, "user ANONYMOUS, client-id other has 9e+06 B/s")
	w.set("user=ANONYMOUS,client-id=other", "producer_byte_rate", 0)
	w.thaw(m)
	w.sameQuotas(before)
}
