package replicator_test

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/replicatortest"
)

func TestACLsAreSynced(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.AllowRead("alice", "orders")
	c.Source.AllowRead("alice", "later")
	flow := c.Start(func(f *config.Flow) {
		f.ACLs, f.ACLsInterval = true, time.Second // off by default; the test waits for three syncs
	})
	created := func(n float64) func(replicator.Status) bool {
		return func(replicator.Status) bool { return flow.Metric("milena_acl_changes_total", "change", "created") == n }
	}
	flow.Until("alice may read the copy", created(1))
	if got := c.Target.Readers("a.orders"); !slices.Equal(got, []string{"User:alice"}) {
		t.Errorf("readers of the copy: %v", got)
	}
	c.Source.AllowRead("bob", "orders")
	flow.Until("bob may read the copy too", created(2))
	if got := c.Target.Readers("a.orders"); !slices.Equal(got, []string{"User:alice", "User:bob"}) {
		t.Errorf("readers of the copy: %v", got)
	}
	flow.Until("a sync finds nothing to do", func(s replicator.Status) bool {
		return s.ACLs != nil && s.ACLs.InStep == 2 && s.ACLs.Created == 0 && len(s.ACLs.Problems) == 0
	})
	if got := c.Target.Readers("a.later"); len(got) > 0 {
		t.Errorf("a topic that does not exist has readers: %v", got)
	}
	if flow.Metric("milena_passes_total", "pass", "acls", "result", "done") == 0 || flow.Metric("milena_acls_last_pass_timestamp_seconds") == 0 {
		t.Error("syncs are not counted")
	}
}

func TestACLsOfANewTopicDoNotWaitForTheInterval(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.AllowRead("alice", "orders")
	c.Source.AllowRead("alice", "later")
	flow := c.Start(func(f *config.Flow) {
		f.ACLs, f.ACLsInterval = true, time.Hour // off by default; no second sync by the interval
	})
	flow.Until("the first sync is over", func(s replicator.Status) bool { return s.ACLs != nil && s.ACLs.InStep == 1 })
	c.Source.CreateTopic("later", 1)
	flow.Until("the topic has its reader", func(replicator.Status) bool { return len(c.Target.Readers("a.later")) == 1 })
}

func TestACLsAreOffByDefault(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	c.Source.AllowRead("alice", "orders")
	flow := c.Start(func(f *config.Flow) { f.ConfigsInterval = time.Second }) // the test waits for the first config sync
	flow.Until("configs were compared", func(s replicator.Status) bool { return s.Ready && s.Configs != nil })
	if s := flow.Status(); s.ACLs != nil || len(c.Target.Readers("a.orders")) > 0 {
		t.Errorf("ACLs are off: %+v, readers %v", s.ACLs, c.Target.Readers("a.orders"))
	}
}

// A name clash: under identity naming, an unrelated topic of the target has the name of a source topic. It keeps its own ACLs.
func TestACLsOfAnUnrelatedTopicAreNotSynced(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	for _, topic := range []string{"orders", "stock"} {
		c.Source.CreateTopic(topic, 1)
		c.Source.AllowRead("alice", topic)
	}
	c.Target.CreateTopic("stock", 1)
	c.Target.Write(&kgo.Record{Topic: "stock", Value: []byte("the target's own")})
	c.Source.Produce("stock", 1, 1, "source")
	flow := c.Start(func(f *config.Flow) {
		f.Naming = config.NamingIdentity
		f.ACLs, f.ACLsInterval = true, time.Second // off by default; the test waits for two syncs
	})
	flow.UntilHalted("stock", 0)
	flow.Until("alice may read the copy", func(replicator.Status) bool { return len(c.Target.Readers("orders")) == 1 })
	before := flow.Status().ACLs.LastPass
	flow.Until("another sync", func(s replicator.Status) bool { return s.ACLs.LastPass.After(before) })
	if got := c.Target.Readers("stock"); len(got) > 0 {
		t.Errorf("an unrelated topic has readers of the source topic: %v", got)
	}
}

func TestDefaultsFromTheSource(t *testing.T) {
	t.Parallel()
	c := replicatortest.NewClusters(t, 1)
	c.Source.CreateTopic("orders", 1)
	flow := c.Start(func(f *config.Flow) {
		f.UseDefaultsFrom = config.DefaultsFromSource
		f.ConfigsInterval = time.Second // the test waits for the second sync
	})
	flow.UntilCopied("orders")
	set := func() map[string]string {
		configs, err := c.Target.Admin.DescribeTopicConfigs(t.Context(), "a.orders")
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
	created := set()
	if created["retention.ms"] != "604800000" || created["cleanup.policy"] != "delete" {
		t.Errorf("the copy was created with %v", created)
	}
	// A change on the target is undone.
	c.Target.SetTopicConfig("a.orders", "retention.ms", "86400000")
	flow.Until("the value is that of the source again", func(replicator.Status) bool { return set()["retention.ms"] == "604800000" })
	if flow.Metric("milena_topic_config_changes_total") == 0 {
		t.Error("the change was not counted")
	}
}
