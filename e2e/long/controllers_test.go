package long_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// Both clusters lose their controllers, one after the other. Brokers go on with what has a leader, and milena with them. What needs a controller waits, and
// nothing else: a new topic, and on the target a partition whose leader dies meanwhile.
func TestControllersLost(t *testing.T) {
	small := map[string]string{"request.timeout.ms": "5000"}
	d := newDisaster(t, kafka.Options{Brokers: 2, Properties: small}, kafka.Options{Brokers: 2, Properties: small})
	ctx := t.Context()
	must(t, kafka.AssignTopic(ctx, d.sourceClient, "orders", [][]int32{{1, 2}, {2, 1}}))
	must(t, kafka.AssignTopic(ctx, d.sourceClient, "first", [][]int32{{1}, {1}}))
	must(t, kafka.AssignTopic(ctx, d.targetClient, remote("first"), [][]int32{{1}, {1}}))
	d.stream("orders", 2, 50)
	d.stream("first", 2, 50)
	d.startMilena(d.source.Addrs(), d.target.Addrs())
	d.untilMoved(time.Minute, d.topics...)

	d.begin()
	d.source.Controller().Kill()
	d.untilMoved(20*time.Second, d.topics...)
	d.says(d.look(25*time.Second), `cluster source: brokers 1, 2 do not reach the active controller since`)
	d.untilMoved(20*time.Second, d.topics...)
	must(t, d.source.Controller().Restart(ctx))
	d.mended()

	d.begin()
	d.target.Controller().Kill()
	must(t, kafka.CreateTopic(ctx, kadm.NewClient(d.sourceClient), "late", 1, 2))
	d.stream("late", 1, 20)
	d.untilMoved(20*time.Second, "orders", "first")
	d.until(time.Minute, "the status says what it cannot create", func() (bool, string) {
		reasons := strings.Join(d.status().NotReady, "\n")
		return strings.Contains(reasons, "late-0 is not copied yet"), reasons
	})
	d.says(d.look(25*time.Second), `cluster target: brokers 1, 2 do not reach the active controller since`, `late.* create topic source.late on cluster target`)
	d.untilMoved(20*time.Second, "orders", "first")
	t.Log("and a broker of the target dies")
	d.target.Broker(2).Kill()
	d.says(d.look(time.Since(d.began)+20*time.Second), `cluster target: broker.* not reach the active controller since`)
	must(t, d.target.Controller().Restart(ctx))
	must(t, d.target.Broker(2).Restart(ctx))
	d.over()
}
