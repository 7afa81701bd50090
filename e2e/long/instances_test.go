package long_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/instances"
)

// Random faults of one, two and four processes that share a flow: 20 minutes. MILENA_MINUTES is how long each part
// lasts, and with MILENA_FORGETFUL=1 the target forgets producers after 20 s.
func TestInstances(t *testing.T) {
	jars := requireLong(t)
	bin, err := daemon.Build(t.Context(), t.TempDir())
	must(t, err)
	seed := uint64(number(t, "MILENA_E2E_SEED", time.Now().UnixNano()%1_000_000))
	t.Logf("random seed: MILENA_E2E_SEED=%d", seed)
	lasts := 20 * time.Minute / 3
	if minutes := number(t, "MILENA_MINUTES", 0); minutes > 0 {
		lasts = time.Duration(minutes) * time.Minute
	}
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d processes", n), func(t *testing.T) {
			dir := t.TempDir()
			if keep := os.Getenv("MILENA_E2E_KEEP"); keep != "" {
				dir = filepath.Join(keep, fmt.Sprint(n))
				must(t, os.RemoveAll(dir))
				must(t, os.MkdirAll(dir, 0o755))
			}
			report, err := instances.Run(t.Context(), instances.Options{
				Seed: seed, Instances: n, Lasts: lasts, Forgetful: number(t, "MILENA_FORGETFUL", 0) > 0, Binary: bin, Jars: jars, Dir: dir, Logf: t.Logf,
			})
			t.Logf("standstills:\n%s", report.Standstills)
			must(t, err)
			t.Logf("%d records after %v, %.0f s: none lost, none twice, none out of order", report.Records, report.Faults, report.Took.Seconds())
		})
	}
}
