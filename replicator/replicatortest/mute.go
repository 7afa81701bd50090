package replicatortest

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/membership"
)

// Mute joins an instance of the flow from Source to Target that gets shards, copies nothing and answers nothing, as one that hangs. It is there until the
// test ends.
func (c *Clusters) Mute(id string) {
	c.t.Helper()
	f := c.Config().Flows[0]
	assigned := make(chan struct{}, 100)
	none := func(error) {}
	member, err := membership.Join(c.t.Context(), membership.Config{
		Options: []kgo.Opt{kgo.SeedBrokers(c.Target.ListenAddrs()...)}, Cluster: f.Target, Group: membership.GroupName(f.Name), Topic: offsets.JournalTopic(f.Name), Instance: id,
		Info: func() membership.Info { return membership.Info{Version: "test", Process: id} },
		Assigned: func(shards []int32) {
			if len(shards) > 0 {
				assigned <- struct{}{}
			}
		},
		Settled: func() {}, Revoked: func([]int32) {}, Lost: none, Failed: none, Retried: none, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(member.Close)
	Await(c.t, "the mute instance has shards", assigned)
}
