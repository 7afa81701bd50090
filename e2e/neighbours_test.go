package e2e_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/neighbours"
)

// Topics that cannot be copied cost their neighbours nothing that users feel. The package e2e/long has longer windows.
func TestNeighboursOfABusyTopic(t *testing.T) {
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	neighbours.Run(t, neighbours.Options{Jars: jars, Binary: bin, Dir: dir(t), Window: 10 * time.Second})
}
