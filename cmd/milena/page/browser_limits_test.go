package page_test

import (
	_ "embed"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// axe finds what keeps people with screen readers, keyboards or weak eyes from using a page. It is no part of the product: axe-core 4.14.1, MPL-2.0.
//
//go:embed testdata/axe.min.js
var axe string

func TestPageIsAccessible(t *testing.T) {
	for _, on := range []screen{desk, dark} {
		for _, name := range []string{"healthy", "halted", "source-dark"} {
			t.Run(on.name+"/"+name, func(t *testing.T) {
				s := serve(t, storyOf(name))
				s.signIn("alice")
				p := openTab(t, s.url(), on)
				p.untilShows(".answer", "Is it copying?")
				eval[bool](p, axe+";true")
				for _, view := range []struct{ link, ready string }{
					{"Overview", ".u-wrap"}, {"Topics", ".rows-box tbody td"}, {"Partitions", ".rows-box tbody td"}, {"Groups", ".rows-box tbody td"}, {"Timeline", ".timeline"}, {"Instances", ".instances"},
				} {
					eval[bool](p, fmt.Sprintf(`[...document.querySelectorAll(".tabs a")].find(a => a.innerText.startsWith(%q)).click() || true`, view.link))
					p.until(fmt.Sprintf("document.querySelector(%q)", view.ready))
					p.checkAccess(view.link)
				}
				p.press("Pause")
				p.untilShows("dialog", "Pause flow primary-dr?")
				p.checkAccess("the dialog")
			})
		}
	}
}

// checkAccess fails for what axe calls serious or critical.
func (p *tab) checkAccess(where string) {
	p.t.Helper()
	found := eval[[]string](p, `axe.run({resultTypes: ["violations"]}).then(r => r.violations.filter(v => ["serious", "critical"].includes(v.impact))
		.map(v => v.impact + " " + v.id + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " | " + n.any.map(a => a.message).join("; ")).join("\n   ")))`)
	for _, violation := range found {
		p.t.Errorf("%s: %s", where, violation)
	}
}

// scrolling scrolls a table from its top to its end in three seconds, and returns the milliseconds between the frames.
const scrolling = `new Promise(done => {
	const box = document.querySelector(".rows-box"), end = box.scrollHeight - box.clientHeight, frames = [];
	let first, last;
	const step = now => {
		first ??= now;
		if (last !== undefined) frames.push(now - last);
		last = now;
		box.scrollTop = end * Math.min(1, (now - first) / 3000);
		if (now - first < 3000) requestAnimationFrame(step); else done(frames);
	};
	requestAnimationFrame(step);
})`

func TestPageScrollsThroughTenThousandPartitions(t *testing.T) {
	p := openTab(t, serve(t, storyOf("10000-partitions")).url()+"#tab=partitions", desk)
	p.untilShows(".rows-box td", "shop.clicks.v1")
	before, worked := p.memory(), p.work()
	frames := eval[[]float64](p, scrolling)
	worked = p.work() - worked
	slices.Sort(frames)
	n := len(frames)
	t.Logf("%d frames in 3 s: median %.1f ms, 99th percentile %.1f ms, longest %.1f ms; the page worked %.1f ms per frame", n, frames[n/2], frames[n*99/100], frames[n-1], 1e3*worked/float64(n))
	p.untilShows(".rows-box td", "shop.stock.v9") // the last one by name
	p.until(`document.querySelector(".rows-box tbody tr:last-child td:nth-child(2)").innerText === "49"`)
	t.Logf("heap before %s, after %s", before, p.memory())
	if rows := eval[int](p, `document.querySelectorAll(".rows-box tbody tr").length`); rows > 100 {
		t.Errorf("%d rows of the table are elements; those in sight would do", rows)
	}
	if index := eval[string](p, `document.querySelector(".rows-box tbody tr:last-child").getAttribute("aria-rowindex")`); index != "10001" {
		t.Errorf("the last row calls itself row %s of 10001", index)
	}
}

// memory is what the page holds after a collection of garbage.
type memory struct {
	heap, nodes, listeners float64
}

func (m memory) String() string {
	return fmt.Sprintf("%.1f MB, %.0f nodes, %.0f listeners", m.heap/1e6, m.nodes, m.listeners)
}

func (p *tab) memory() (m memory) {
	p.t.Helper()
	command(p, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	command(p, cdp.Command[cdp.Empty, cdp.Empty]{Method: "HeapProfiler.collectGarbage"}, cdp.Empty{})
	for _, metric := range command(p, performance.GetMetrics, cdp.Empty{}).Metrics {
		switch metric.Name {
		case "JSHeapUsedSize":
			m.heap = metric.Value
		case "Nodes":
			m.nodes = metric.Value
		case "JSEventListeners":
			m.listeners = metric.Value
		}
	}
	return m
}

// work is how many seconds of processor time scripts, styles and layout of the page took so far. Unlike the time between two frames, it says little about
// what else the machine does.
func (p *tab) work() (seconds float64) {
	p.t.Helper()
	command(p, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	for _, metric := range command(p, performance.GetMetrics, cdp.Empty{}).Metrics {
		if slices.Contains([]string{"ScriptDuration", "LayoutDuration", "RecalcStyleDuration"}, metric.Name) {
			seconds += metric.Value
		}
	}
	return seconds
}

// TestPageStaysSmall keeps the page open for ten minutes with 10,000 partitions, and logs what it holds and what it costs on the network.
func TestPageStaysSmall(t *testing.T) {
	if os.Getenv("MILENA_LONG") == "" {
		t.Skip("takes ten minutes; set MILENA_LONG=1")
	}
	p := openTab(t, serve(t, storyOf("10000-partitions")).url()+"#tab=partitions", desk)
	var received int64
	if err := chromedp.Listen(p.ctx, func(event any) {
		if e, ok := event.(*network.EventDataReceived); ok {
			p.mu.Lock()
			received += e.EncodedDataLength
			p.mu.Unlock()
		}
	}); err != nil {
		t.Fatal(err)
	}
	command(p, network.Enable, network.EnableParams{})
	p.untilShows(".rows-box td", "shop.clicks.v1")
	var first, last memory
	var bytes int64
	const minutes = 10
	for minute := range minutes + 1 {
		if minute > 0 {
			end := time.After(time.Minute)
			for waiting := true; waiting; {
				select {
				case <-end:
					waiting = false
				default:
					eval[[]float64](p, scrolling) // somebody reads it
				}
			}
		}
		last = p.memory()
		p.mu.Lock()
		t.Logf("minute %d: %s, %.1f kB/s", minute, last, float64(received-bytes)/60e3)
		bytes = received
		p.mu.Unlock()
		if minute == 1 {
			first = last
		}
	}
	if last.heap > 2*first.heap+5e6 || last.nodes > 2*first.nodes+500 {
		t.Errorf("after a minute the page held %s, and after %d minutes %s", first, minutes, last)
	}
}
