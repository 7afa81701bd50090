package replicator_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// Most of these tests wait for timers, brokers and each other, not for a processor, so more of them run at a time than there are processors.
// The command line is parsed later: -parallel on it is what counts.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
