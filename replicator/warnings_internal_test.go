package replicator

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A broker that is away for a day, and ten thousand partitions with the same problem, leave a log that can be read.
func TestWarningsOfALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := warnings{log: slog.New(slog.NewTextHandler(&text, nil))}
		for range 24 * 3600 {
			w.warn("broker does not answer", "broker", 1, "err", time.Now())
			time.Sleep(time.Second)
		}
		if n := strings.Count(text.String(), "\n"); n > 6+24*6 {
			t.Errorf("%d lines in a day about one broker", n)
		}
		if !strings.Contains(text.String(), "count=600") {
			t.Error("no line says how often it happened in ten minutes")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := warnings{log: slog.New(slog.NewTextHandler(&text, nil))}
		for range 3600 / 5 {
			for partition := range 10_000 {
				w.warn("fetch failed", "partition", partition)
			}
			time.Sleep(5 * time.Second)
		}
		if n := strings.Count(text.String(), "\n"); n > 5*(6+6) {
			t.Errorf("%d lines in an hour about 10,000 partitions", n)
		}
		if !strings.Contains(text.String(), "others=") {
			t.Error("no line says how many other partitions there are")
		}
	})
}

// What comes back after a long time is news.
func TestWarningsOfANewOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := warnings{log: slog.New(slog.NewTextHandler(&text, nil))}
		for outage := range 2 {
			began := text.Len()
			for range 3600 {
				w.warn("broker does not answer", "broker", 1)
				time.Sleep(time.Second)
			}
			if n := bytes.Count(text.Bytes()[began:], []byte("\n")); n < 8 || n > 12 {
				t.Errorf("outage %d has %d lines in its hour", outage, n)
			}
			time.Sleep(time.Hour)
		}
	})
}

// Each text has lines of its own: what many topics suffer hides nothing else.
func TestWarningsOfAnotherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := warnings{log: slog.New(slog.NewTextHandler(&text, nil))}
		for partition := range 10_000 {
			w.warn("fetch failed", "partition", partition)
		}
		w.warn("topic sync failed, retrying", "err", fmt.Errorf("away"))
		if !strings.Contains(text.String(), "topic sync failed") {
			t.Errorf("it was not logged:\n%s", text.String())
		}
	})
}
