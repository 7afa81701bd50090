package versions

import (
	"testing"

	"github.com/milena-kafka/milena/e2e/kafka"
)

// OldFormatOnTarget has a target whose brokers write records in a format before 0.11. Nothing can be copied there, and check and run say which config
// of the brokers is the cause.
func OldFormatOnTarget(t *testing.T, o Options) {
	t.Helper()
	target := Kafka28().Options
	target.Properties = map[string]string{"log.message.format.version": "0.10.2"}
	s := newScene(t, o, kafka.Options{}, target)
	s.createTopic(plain, 1, 1)
	s.newMilena(o, nil)
	for _, verb := range []string{"check", "run"} {
		code, out := s.verb(verb, "-c", s.milena.Config())
		if code != 1 {
			t.Errorf("%s: exit code %d", verb, code)
		}
		s.wantText(verb, out, "set log.message.format.version in the brokers' server.properties to 0.11.0 or later")
	}
}
