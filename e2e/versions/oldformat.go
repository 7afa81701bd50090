package versions

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

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
		out, err := exec.CommandContext(s.within(time.Minute, verb+" ends"), s.milena.Binary(), verb, "-c", s.milena.Config()).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "set log.message.format.version in the brokers' server.properties to 0.11.0 or later") {
			t.Errorf("%s: %v\n%s", verb, err, out)
		}
	}
}
