package replicator_test

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// mayRead lets a user read a topic.
func (p *pair) mayRead(admin *kadm.Client, user, topic string) {
	p.t.Helper()
	b := kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow("User:" + user).AllowHosts("*")
	results, err := admin.CreateACLs(p.t.Context(), b)
	if err != nil || results[0].Err != nil {
		p.t.Fatal(err, results[0].Err)
	}
}

// readers are the users that may read a topic of the target.
func (p *pair) readers(topic string) []string {
	p.t.Helper()
	b := kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).Allow().AllowHosts()
	results, err := p.targetAdm.DescribeACLs(p.t.Context(), b)
	if err != nil {
		p.t.Fatal(err)
	}
	var users []string
	for _, r := range results {
		for _, d := range r.Described {
			users = append(users, d.Principal)
		}
	}
	slices.Sort(users)
	return users
}

func TestReadersFollowTheirTopics(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.mayRead(p.sourceAdm, "alice", "orders")
	p.mayRead(p.sourceAdm, "alice", "later")
	r := p.start(func(f *config.Flow) { f.ACLs, f.ACLsInterval = true, 100*time.Millisecond })
	created := func(n float64) func(replicator.Status) bool {
		return func(replicator.Status) bool { return r.metric("milena_acl_changes_total", "change", "created") == n }
	}
	r.until("alice may read the copy", created(1))
	if got := p.readers("a.orders"); !slices.Equal(got, []string{"User:alice"}) {
		t.Errorf("readers of the copy: %v", got)
	}
	p.mayRead(p.sourceAdm, "bob", "orders")
	r.until("bob as well", created(2))
	if got := p.readers("a.orders"); !slices.Equal(got, []string{"User:alice", "User:bob"}) {
		t.Errorf("readers of the copy: %v", got)
	}
	r.until("a look finds nothing to do", func(s replicator.Status) bool {
		return s.ACLs != nil && s.ACLs.InStep == 2 && s.ACLs.Created == 0 && len(s.ACLs.Problems) == 0
	})
	if got := p.readers("a.later"); len(got) > 0 {
		t.Errorf("a topic that is not there has readers: %v", got)
	}
	if r.metric("milena_passes_total", "pass", "acls", "result", "done") == 0 || r.metric("milena_acls_last_pass_timestamp_seconds") == 0 {
		t.Error("looks are not counted")
	}
}

func TestReadersOfANewTopicNeedNotWaitForTheInterval(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.mayRead(p.sourceAdm, "alice", "orders")
	p.mayRead(p.sourceAdm, "alice", "later")
	r := p.start(func(f *config.Flow) { f.ACLs, f.ACLsInterval = true, time.Hour })
	r.until("the first look is over", func(s replicator.Status) bool { return s.ACLs != nil && s.ACLs.InStep == 1 })
	p.createTopic("later", 1)
	r.until("the topic has its reader", func(replicator.Status) bool { return len(p.readers("a.later")) == 1 })
}

func TestNobodyAsksForACLs(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	p.mayRead(p.sourceAdm, "alice", "orders")
	r := p.start(nil)
	r.until("configs were compared", func(s replicator.Status) bool { return s.Ready && s.Configs != nil })
	if s := r.flow.Status(); s.ACLs != nil || len(p.readers("a.orders")) > 0 {
		t.Errorf("ACLs are off: %+v, readers %v", s.ACLs, p.readers("a.orders"))
	}
}

// Under identity naming a topic of the target with records of its own keeps its own readers, though the flow asks for its name.
func TestReadersOfANamesakeAreNotFollowed(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	for _, topic := range []string{"orders", "stock"} {
		p.createTopic(topic, 1)
		p.mayRead(p.sourceAdm, "alice", topic)
	}
	if _, err := p.targetAdm.CreateTopic(t.Context(), 1, 1, nil, "stock"); err != nil {
		t.Fatal(err)
	}
	if err := p.targetCl.ProduceSync(t.Context(), &kgo.Record{Topic: "stock", Value: []byte("the target's own")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p.produce("stock", 1, 1, "source")
	r := p.start(func(f *config.Flow) { f.ACLs, f.ACLsInterval, f.Naming = true, 50*time.Millisecond, "identity" })
	r.halted("stock", 0)
	r.until("alice may read the copy", func(replicator.Status) bool { return len(p.readers("orders")) == 1 })
	before := r.flow.Status().ACLs.LastPass
	r.until("another look", func(s replicator.Status) bool { return s.ACLs.LastPass.After(before) })
	if got := p.readers("stock"); len(got) > 0 {
		t.Errorf("a topic of the target's own has readers of the source: %v", got)
	}
}

func TestDefaultsOfTheSource(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	p.createTopic("orders", 1)
	r := p.start(func(f *config.Flow) { f.UseDefaultsFrom = config.DefaultsFromSource })
	p.settled(r, "orders")
	set := func() map[string]string {
		configs, err := p.targetAdm.DescribeTopicConfigs(t.Context(), "a.orders")
		if err != nil || configs[0].Err != nil {
			t.Fatal(err, configs[0].Err)
		}
		found := map[string]string{}
		for _, c := range configs[0].Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				found[c.Key] = c.MaybeValue()
			}
		}
		return found
	}
	born := set()
	if born["retention.ms"] != "604800000" || born["cleanup.policy"] != "delete" {
		t.Errorf("the copy was born with %v", born)
	}
	// Whoever changes it on the target gets the source's default back.
	day := "86400000"
	if _, err := p.targetAdm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &day}}, "a.orders"); err != nil {
		t.Fatal(err)
	}
	r.until("the value is that of the source again", func(replicator.Status) bool { return set()["retention.ms"] == "604800000" })
	if r.metric("milena_topic_config_changes_total") == 0 {
		t.Error("the change was not counted")
	}
}
