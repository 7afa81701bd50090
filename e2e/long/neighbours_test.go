package long_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/neighbours"
)

// What a busy topic suffers while its neighbours cannot be copied for a minute.
func TestNeighboursOfABusyTopic(t *testing.T) {
	jars := requireLong(t)
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	neighbours.Run(t, neighbours.Options{Jars: jars, Binary: bin, Dir: t.TempDir(), Window: time.Minute})
}
