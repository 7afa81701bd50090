package e2e_test

import (
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/switching"
)

// An application of real clients moves to the target and back, and changes nothing but its address and the names of copies. Each of its groups processes
// each record exactly once.
func TestSwitchoverAndBack(t *testing.T) {
	t.Parallel()
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	ctx := within(t, 4*time.Minute, "the application moved there and back")
	w, err := switching.Start(ctx, switching.Options{Partitions: 8, PerSecond: 200, Groups: 6, Binary: bin, Jars: jars, Dir: dir(t), Logf: t.Logf})
	check(t, err)
	for range 2 {
		pause(t, 2*time.Second)
		_, err = w.SwitchAndMove(ctx, "--freeze", "acl")
		check(t, err)
	}
	pause(t, time.Second)
	check(t, w.App.Finish(ctx))
	t.Logf("%d records: each group processed each of them once", w.App.Written())
}
