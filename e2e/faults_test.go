package e2e_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/faults"
)

// Thirty random faults, at least one of each kind. The package e2e/long has a thousand.
func TestThirtyRandomFaults(t *testing.T) {
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	report, err := faults.Run(within(t, 8*time.Minute, "the faults are over"), faults.Options{
		Seed: seed(t), Faults: 30, Binary: bin, Jars: jars, Dir: keptDir(t), Logf: t.Logf,
	})
	check(t, err)
	t.Logf("%d records after %v, %.0f s: none lost, none twice, none out of order", report.Records, report.Faults, report.Took.Seconds())
}
