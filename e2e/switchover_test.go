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
	switchAndBack(t, switching.Options{})
}

// So it is with groups of the newer protocol (KIP-848), of which the broker itself says who reads what: those with members have committed the end when the
// producers are stopped, those without are moved as they are, and all continue on the other side.
func TestSwitchoverOfNewerGroups(t *testing.T) {
	t.Parallel()
	switchAndBack(t, switching.Options{Newer: true})
}

func switchAndBack(t *testing.T, o switching.Options) {
	t.Helper()
	jars := requireKafka(t)
	bin, err := buildMilena()
	check(t, err)
	ctx := within(t, 4*time.Minute, "the application moved there and back")
	o.Partitions, o.PerSecond, o.Groups, o.Binary, o.Jars, o.Dir, o.Logf = 8, 200, 6, bin, jars, dir(t), t.Logf
	w, err := switching.Start(ctx, o)
	check(t, err)
	check(t, w.AwaitProtocol(ctx))
	for range 2 {
		pause(t, 2*time.Second)
		_, err = w.SwitchAndMove(ctx, "--freeze", "acl")
		check(t, err)
	}
	pause(t, time.Second)
	check(t, w.App.Finish(ctx))
	t.Logf("%d records: each group processed each of them once", w.App.Written())
}
