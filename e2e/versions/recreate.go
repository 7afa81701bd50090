package versions

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/verify"
)

// Recreate deletes topics that have no ids and creates them again while milena copies: one gets fewer records than it had, the other one more, in
// older leader epochs. Both are noticed, and copied from their start behind what was copied before, as policy says.
func Recreate(t *testing.T, o Options) {
	t.Helper()
	const shorter, older = "shorter", "older"
	ctx := t.Context()
	s := newScene(t, o, before28(2), Kafka43().Options)
	want := make(map[string]int64)
	write := func(topic string, n int) {
		w, err := load.New(s.source, load.Options{Topic: topic, Partitions: 1, Shapes: []load.Shape{load.Sized(100)}})
		s.check(err)
		defer w.Close()
		s.check(w.Write(ctx, n))
		want[topic] += int64(n)
	}
	s.createTopic(older, 1, 2)
	write(older, 20)
	s.restartBrokers(s.source, nil) // each leader's stop begins a leader epoch
	write(older, 20)
	s.createTopic(shorter, 1, 1)
	write(shorter, 20)
	s.newMilena(o, daemon.Map{"anomalies": daemon.Map{"recreated": "restart"}})
	s.startMilena()
	s.waitCopied()

	admin := kadm.NewClient(s.sourceClient)
	_, err := admin.DeleteTopics(ctx, shorter, older)
	s.check(err)
	for _, topic := range []string{shorter, older} {
		s.until(time.Minute, topic+" exists again", func() (bool, string) { // brokers delete a topic in the background
			err := kafka.CreateTopic(ctx, admin, topic, 1, 1)
			return err == nil, fmt.Sprint(err)
		})
	}
	write(shorter, 10)
	write(older, 100)
	for _, topic := range []string{shorter, older} {
		s.waitMetric(1, "milena_anomalies_total", `topic="`+topic+`"`, `kind="recreated"`, `action="restart"`)
	}
	s.until(time.Minute, "both are copied", func() (bool, string) {
		state := ""
		for topic, n := range want {
			c, err := verify.Contents(ctx, s.targetClient, remote(topic))
			s.check(err)
			if c[0].Records != n {
				state = fmt.Sprintf("the copy of %s has %d records, want %d", topic, c[0].Records, n)
			}
		}
		return state == "", state
	})
	s.stopMilena()
}
