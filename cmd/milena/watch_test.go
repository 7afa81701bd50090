package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/milena-kafka/milena/cmd/milena/summary"
	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/replicator"
)

// status --watch prints a block per interval, with rates from the second on. It goes on while milena does not answer, and ends with 0.
func TestStatusWatch(t *testing.T) {
	var acked, fails atomic.Int64
	a := newAdmin(newRegistry(), config.HTTP{})
	a.serveStatuses(func() []replicator.Status {
		n := acked.Add(100_000)
		return []replicator.Status{{
			Flow: "a-b", Source: "a", Target: "b", Ready: true, Records: n, Bytes: 10 * n, LagRecords: ptr(100_000_000 - n),
			Partitions: []replicator.PartitionStatus{{
				Topic: "orders", State: "replicating", Begun: true, Acked: 1_000_000_000 + n, TargetEnd: n, LagRecords: ptr(100_000_000 - n), LagSeconds: ptr(3600.0),
			}},
		}}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() > 0 {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		a.server.Handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr lockedBuffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"status", "--watch=10ms", "--url", server.URL}, &stdout, &stderr, noEnv)
	}()
	within(t, "two blocks", func() bool { return strings.Count(stdout.String(), "flow a-b: a -> b, ready\n") >= 2 })
	fails.Store(1)
	within(t, "no answer", func() bool { return strings.Contains(stdout.String(), "answers 502 Bad Gateway") })
	fails.Store(0)
	shown := len(stdout.String())
	within(t, "an answer again", func() bool {
		blocks := strings.Split(stdout.String()[shown:], "flow a-b: ")
		return len(blocks) > 2 && !strings.Contains(blocks[len(blocks)-2], "502")
	})
	cancel()
	if code := <-done; code != exitClean || stderr.String() != "" {
		t.Errorf("exit %d\n%s", code, stderr.String())
	}
	for _, want := range []string{"; caught up in ", " records/s, ", "  TOPIC   PARTITIONS  STATE        LAG ", "  CAUGHT UP IN  COPIED\n", "  orders  1           catching_up  ", " [....................]   0%\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q:\n%s", want, stdout.String())
		}
	}
	if strings.Contains(stdout.String(), "\x1b") {
		t.Error("control sequences without a terminal")
	}
}

// What cannot be asked at all is an error at once.
func TestStatusWatchOfNothing(t *testing.T) {
	for line, want := range map[string]struct {
		code   int
		stderr string
	}{
		"status --watch --url http://127.0.0.1:1":           {exitFailed, "check that milena is running"},
		"status --watch 0s":                                 {exitUsage, "--watch must be longer than 0s"},
		"status --watch often":                              {exitUsage, `unexpected argument "often"; name the config with -c FILE`},
		"status 10s":                                        {exitUsage, `unexpected argument "10s"; name the config with -c FILE`},
		"status --watch 10ms --url http://127.0.0.1:1":      {exitFailed, "check that milena is running"},
		"status --watch=0s":                                 {exitUsage, "--watch must be longer than 0s"},
		"status --watch=often":                              {exitUsage, "invalid argument"},
		"status --watch -o yaml":                            {exitUsage, "--watch shows a table and cannot be combined with --output yaml"},
		"status --watch --flow a-b":                         {exitUsage, "--flow and --timeout need -c FILE"},
		"status --watch -c nowhere.yaml":                    {exitUsage, "no such file"},
		"status --watch --url http://127.0.0.1:1 --json":    {exitUsage, "cannot be combined with --output json"},
		"status -c x --watch --url http://127.0.0.1:1 --js": {exitUsage, "unknown flag: --js"},
	} {
		if code, _, stderr := milena(t, strings.Fields(line)...); code != want.code || !strings.Contains(stderr, want.stderr) {
			t.Errorf("%s: exit %d: %s", line, code, stderr)
		}
	}
}

// With -c it asks the clusters.
func TestStatusWatchOfClusters(t *testing.T) {
	path := twoClusters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr lockedBuffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"status", "--watch=10ms", "-c", path}, &stdout, &stderr, noEnv) }()
	within(t, "two blocks", func() bool { return strings.Count(stdout.String(), "flow a-b: a -> b, ") >= 2 })
	cancel()
	if code := <-done; code != exitClean || stderr.String() != "" || !strings.Contains(stdout.String(), "no instance runs: start one with milena run") || strings.Contains(stdout.String(), "COPIED") {
		t.Errorf("exit %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

// A pace is a mean over the last seconds. It begins anew with another process, and says when the lag is caught up.
func TestPaces(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	list := make(map[string]*measured)
	add := func(seconds int, records, lag int64) pace {
		measure(list, "orders", progressed{at: at.Add(time.Duration(seconds) * time.Second), records: records, lag: lag})
		return list["orders"].pace
	}
	if p := add(0, 0, 10_000); p.known || leftText(p, 10_000) != "-" || rateText(p) != "-" {
		t.Errorf("one look: %+v", p)
	}
	if p := add(1, 100, 9_990); p.records != 100 || p.gained != 10 || leftText(p, 9_990) != "17m" || rateText(p) != "100" {
		t.Errorf("%+v, left %s", p, leftText(p, 9_990))
	}
	p := add(2, 1_100, 9_000)
	if p.records < 200 || p.records > 400 || p.gained < 100 || p.gained > 300 {
		t.Errorf("a mean: %+v", p)
	}
	for second := range 60 {
		p = add(3+second, 1_100, 9_000+int64(second))
	}
	if leftText(p, 9_060) != fallingBehind {
		t.Errorf("%+v, left %s", p, leftText(p, 9_060))
	}
	if leftText(pace{known: true, records: 1000, gained: 50}, 1500) != "-" { // a moment behind
		t.Error("a busy flow that keeps up")
	}
	if p := add(90, 5, 9_000); p.known {
		t.Errorf("of another process: %+v", p)
	}
}

// The bar is about the records of the copy: source offsets may begin anywhere.
func TestCopiedText(t *testing.T) {
	t.Parallel()
	for want, topic := range map[string]summary.Topic{
		"[####################] 100%": {Copied: new(int64), LagRecords: new(int64)},
		"[###################.]  99%": {Copied: ptr(int64(999_999)), Acked: 999_999, LagRecords: ptr(int64(1))},
		"[##########..........]  50%": {Copied: ptr(int64(50)), Acked: 1_000_050, LagRecords: ptr(int64(50))},
		"[....................]   0%": {Copied: new(int64), LagRecords: ptr(int64(50))},
		"-":                           {Copied: ptr(int64(50))}, // the lag is not known
	} {
		if got := copiedText(&topic); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// On a terminal a text takes the place of the last one.
func TestScreen(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := newProgram(&out, &out, noEnv)
	p.colours = true
	s := screen{p: p, size: func() (int, int, bool) { return 4, 16, true }}
	s.draw(func(q *program) {
		q.paint(red, "ha\x1b[2Jlted")
		q.printf("\nfills its row !!\n\n")
	})
	s.draw(func(q *program) { q.printf("1\n2\n3\n4\n5\n") })
	s.close()
	want := screenBegin + screenTop + "\x1b[31mha\\u001b[2Jlted\x1b[0m" + clearLine + "\nfills its row !!\n" + clearRest +
		screenTop + "1" + clearLine + "\n2" + clearLine + "\n  and 3 lines more; a larger window shows them" + clearLine + "\n" + clearRest + screenEnd
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// Lines that are wrapped take several rows.
func TestFitting(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text []string
		want string
	}{
		{[]string{"1", "2", "3"}, "1|2|3"},
		{[]string{"1", "2", "3", "4"}, "1|2|  and 2 lines more; a larger window shows them"},
		{[]string{"1", "0123456789x"}, "1|0123456789x"},
		{[]string{"1", "\x1b[31m0123456789\x1b[0m", "3"}, "1|\x1b[31m0123456789\x1b[0m|3"},
		{[]string{"1", "0123456789x", "3"}, "1|  and 2 lines more; a larger window shows them"},
		{[]string{"0123456789 0123456789 0123456789"}, "  and 1 line more; a larger window shows them"},
	} {
		if got := strings.Join(fitting(test.text, 3, 10), "|"); got != test.want {
			t.Errorf("%q is %q", test.text, got)
		}
	}
}

// Colours stand around cells and do not move columns. Nothing is coloured without a terminal.
func TestGridWithColours(t *testing.T) {
	t.Parallel()
	rows := func() [][]cell {
		return [][]cell{cells("TOPIC", "STATE", "LAG"), {{text: "a\x1b[31m"}, {summary.Halted, colourOf(summary.Halted)}, {text: "1"}}, {{text: "long-name"}, {summary.Copying, colourOf(summary.Copying)}, {text: "two\nlines"}}}
	}
	var out strings.Builder
	p := newProgram(&out, &out, noEnv)
	p.printGrid("", rows())
	want := "TOPIC        STATE    LAG\na\\u001b[31m  halted   1\nlong-name    copying  two; lines\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	p.colours = true
	p.printGrid("", rows())
	if got := out.String(); got != strings.Replace(want, "halted", "\x1b[31mhalted\x1b[0m", 1) {
		t.Errorf("%q", got)
	}
}
