package long_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/faults"
	"github.com/milena-kafka/milena/e2e/kafka"
)

// requireLong skips the test unless MILENA_LONG is set.
func requireLong(t *testing.T) kafka.Jars {
	t.Helper()
	if os.Getenv("MILENA_LONG") == "" {
		t.Skip("runs for many minutes; run it with: MILENA_LONG=1 go test ./e2e/long -v -timeout 4h")
	}
	jars, err := kafka.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return jars
}

// number is an environment variable, or otherwise if it is not set.
func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A thousand random faults of milena, brokers, networks, retention, cleaners and people. MILENA_RTT is the round-trip time to both clusters in ms.
func TestThousandFaults(t *testing.T) {
	jars := requireLong(t)
	dir := os.Getenv("MILENA_E2E_KEEP")
	if dir == "" {
		dir = t.TempDir()
	}
	bin, err := daemon.Build(t.Context(), t.TempDir()) // not in dir, where milena has a directory of this name
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(number(t, "MILENA_E2E_SEED", time.Now().UnixNano()%1_000_000))
	t.Logf("random seed: MILENA_E2E_SEED=%d", seed)
	report, err := faults.Run(t.Context(), faults.Options{
		RTT:  time.Duration(number(t, "MILENA_RTT", 0)) * time.Millisecond,
		Seed: seed, Faults: int(number(t, "MILENA_FAULTS", 1000)), Binary: bin, Jars: jars, Dir: dir, Logf: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records after %v, %.0f s: none lost, none twice, none out of order", report.Records, report.Faults, report.Took.Seconds())
}
