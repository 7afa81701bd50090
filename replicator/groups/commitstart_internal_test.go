package groups

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// `milena translate --commit` is what a failover uses. A partition that cannot tell its log start just then, as one without a leader, was
// committed as translated before the refactoring; now the group is left without an offset there.
func TestCommitDoesNotNeedTheLogStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.target.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.target.KeepControl()
		request := r.(*kmsg.ListOffsetsRequest)
		response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, rt := range request.Topics {
			st := kmsg.NewListOffsetsResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewListOffsetsResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, -1
				st.Partitions = append(st.Partitions, sp)
			}
			response.Topics = append(response.Topics, st)
		}
		return response, nil, true
	})
	tr := &Translator{clusters: client.Clusters{Flow: config.Flow{Source: "a", Target: "b"}}, target: w.host.target}
	n, refusals, err := tr.Commit(t.Context(), offsets.Target, "app", []offsets.GroupOffset{
		{Translation: offsets.Translation{Topic: "orders", TargetTopic: "a.orders", Source: 40, Target: 40}, Group: "app"},
	})
	if at := w.committed(w.host.target, "app", "a.orders"); at != 40 || n != 1 {
		t.Errorf("committed %d, at %d (%v, %v)", n, at, refusals, err)
	}
}

// The flow is stopped while a sync of the groups is under way. It commits nothing any more: whoever stopped the flow moves the groups next.
func TestSyncThatIsUnderWayCommitsNothingOnceItIsPaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copies("orders", 0, 100)
	w.commit(w.host.source, "app", "orders", 40)
	paused := true
	w.deps.Paused = func() bool { return paused }
	s := w.newSyncer()
	w.sync(s)
	if at := w.committed(w.host.target, "app", "a.orders"); at >= 0 || s.IsCommitting() {
		t.Errorf("the group was put at %d", at)
	}
	paused = false
	w.sync(s)
	if at := w.committed(w.host.target, "app", "a.orders"); at != 40 {
		t.Errorf("the group is at %d", at)
	}
}
