package page_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// answer is what the page says to one of its four questions.
func (p *tab) answer(question string) string {
	return eval[string](p, fmt.Sprintf(`[...document.querySelectorAll(".answer")].find(a => a.innerText.includes(%q))?.querySelector("dd").innerText ?? ""`, question))
}

func TestPageAnswersTheFourQuestions(t *testing.T) {
	for name, want := range map[string][4]string{
		"healthy":     {"Copying", "ms", "Yes", "Nothing"},
		"halted":      {"Halted", "min", "Yes", "thing"},
		"source-dark": {"Source is dark", "Unknown", "Yes", "thing"},
		"failed-over": {"Failed over", "Unknown", "No", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := openTab(t, serve(t, storyOf(name)).url(), desk)
			p.untilShows(".answer", "Is it copying?")
			for i, question := range []string{"Is it copying?", "How far behind?", "Can I fail over now?", "What needs me?"} {
				if said := p.answer(question); !strings.Contains(said, want[i]) {
					t.Errorf("%s: the page says %q, and it should say %q", question, said, want[i])
				}
			}
		})
	}
}

// What nobody knows is called unknown. A 0 would say that all is well.
func TestPageCallsUnknownWhatIsNotKnown(t *testing.T) {
	p := openTab(t, serve(t, storyOf("source-dark")).url()+"#tab=partitions", desk)
	p.untilShows(".rows-box td", "orders")
	p.untilShows(".rows-box td", "unknown")
	if said := p.answer("Can I fail over now?"); !strings.Contains(said, "unknown") {
		t.Errorf("the page says %q about what a failover would lose, while the source is dark", said)
	}
	lag := eval[[]string](p, `[...document.querySelectorAll(".rows-box tbody tr:not([aria-hidden]) td:nth-child(6)")].map(e => e.innerText)`)
	for _, text := range lag {
		if text != "unknown" {
			t.Errorf("the lag of a partition is %q", text)
		}
	}
	if len(lag) < 20 {
		t.Errorf("the table shows %d of 24 partitions", len(lag))
	}
}

func TestPageFollowsTheFlow(t *testing.T) {
	s := serve(t, storyOf("healthy"))
	p := openTab(t, s.url(), desk)
	p.untilShows(".line", "live")
	before := p.answer("How far behind?")
	p.until(fmt.Sprintf(`document.querySelectorAll(".answer dd")[1].innerText !== %q`, before))
	p.until(`document.querySelectorAll(".answer dd")[0].innerText.includes("MB/s")`)
	s.tell(storyOf("halted"))
	p.untilShows(".answer", "Halted")
	p.untilShows(".attention", "Needs attention")
	p.untilShows("[role=status]", "primary-dr: Halted") // what a screen reader announces
	p.until(`document.title.includes("■")`)
}

func TestPageSaysSinceWhenItIsNotLive(t *testing.T) {
	s := serve(t, storyOf("healthy"))
	p := openTab(t, s.url(), desk)
	p.expect("ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY", "net::ERR")
	p.untilShows(".line", "live")
	s.stop()
	p.untilShows(".line", "not live since")
	p.until(`document.title.startsWith("(not live)")`)
	if said := p.answer("Is it copying?"); !strings.Contains(said, "Copying") {
		t.Errorf("the page forgot the last that it knew, and says %q", said)
	}
	s.start()
	p.until(`document.querySelector(".line").innerText.trim() === "live"`)
}

func TestPageGivesAnOrder(t *testing.T) {
	s := serve(t, storyOf("healthy"))
	p := openTab(t, s.url(), desk)
	p.expect("401")
	p.press("Pause")
	p.untilShows("dialog", "Sign in") // nobody is signed in, and the order waits
	p.fill("user", "alice")
	p.fill("secret", "wrong")
	p.press("Sign in")
	p.untilShows("dialog [role=alert]", "wrong")
	p.fill("secret", "correct horse")
	p.press("Sign in")
	p.untilShows("dialog", "Pause flow primary-dr?")
	p.press("Pause")
	if got := s.given(); len(got) != 0 {
		t.Fatalf("the page gave %v without a reason", got)
	}
	p.fill("reason", "maintenance of dr")
	p.press("Pause")
	p.untilShows("dialog", "milena-0: done, paused")
	if got, want := strings.Join(s.given(), "; "), `alice: primary-dr/pause {"reason":"maintenance of dr"}`; got != want {
		t.Errorf("the server was asked for %s, and should be for %s", got, want)
	}
	p.press("Close")
	p.until(`!document.querySelector("dialog")`)
}

func TestPageGivesAnOrderAboutOnePartition(t *testing.T) {
	s := serve(t, storyOf("halted"))
	s.signIn("alice")
	p := openTab(t, s.url()+"#tab=partitions&sort=state&desc=1", desk)
	p.press("retry partition orders-0")
	p.untilShows("dialog", "Retry partition orders-0?")
	p.fill("reason", "the topic is repaired")
	p.press("Retry")
	p.untilShows("dialog", "done")
	if got, want := strings.Join(s.given(), "; "), `alice: primary-dr/retry {"partitions":["orders-0"],"reason":"the topic is repaired"}`; got != want {
		t.Errorf("the server was asked for %s, and should be for %s", got, want)
	}
}

func TestPageAsksForALoginIfReadingNeedsOne(t *testing.T) {
	s := serve(t, storyOf("healthy"))
	s.lock()
	p := openTab(t, s.url(), desk)
	p.expect("401")
	p.untilShows("main", "Sign in to see the status")
	p.press("Sign in")
	p.fill("user", "alice")
	p.fill("secret", "correct horse")
	p.press("Sign in")
	p.untilShows(".answer", "Copying")
	p.press("Sign out alice")
	p.untilShows("main", "Sign in to see the status")
	if text := p.text("main"); strings.Contains(text, "primary") {
		t.Errorf("after the sign-out the page still shows %s", text)
	}
}

func TestPageURLShowsTheSame(t *testing.T) {
	s := serve(t, storyOf("10000-partitions"))
	p := openTab(t, s.url(), desk)
	p.press("Partitions10,000")
	p.untilShows(".rows-tools", "10,000 partitions")
	p.do(chromedp.SendKeys(chromedp.CSS("input[type=search]"), "payments.v12"))
	p.untilShows(".rows-tools", "50 partitions found")
	eval[bool](p, `[...document.querySelectorAll("th a")].find(a => a.innerText.startsWith("lag, records")).click() || true`)
	p.until(`document.querySelector("th[aria-sort=descending]")?.innerText.startsWith("lag, records")`)
	url := eval[string](p, "location.href")
	other := openTab(t, url, desk)
	other.untilShows(".rows-tools", "50 partitions found")
	other.untilShows(".rows-box td", "shop.payments.v12")
	other.until(`document.querySelector("th[aria-sort=descending]").innerText.startsWith("lag, records")`)
	if values := eval[[]float64](other, `[...document.querySelectorAll(".rows-box tbody tr:not([aria-hidden]) td:nth-child(6)")].map(e => Number(e.innerText))`); len(values) < 10 || values[0] < values[len(values)-1] {
		t.Errorf("sorted by lag from the largest, the lags are %v", values)
	}
	p.do(chromedp.NavigateBack())
	p.until(`!document.querySelector("th[aria-sort=descending]")`)
}

// A consumer group may be called anything. Whoever names one on the source must not run code in the browser of who watches the copy.
func TestPageShowsMarkupAsText(t *testing.T) {
	evil := `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	s := serve(t, withGroup(evil))
	p := openTab(t, s.url()+"#tab=groups", desk)
	p.untilShows(".rows-box td", evil)
	if n := eval[int](p, `document.querySelectorAll("main img, main script").length`); n != 0 {
		t.Errorf("a name became %d elements", n)
	}
	if title := eval[string](p, "document.title"); strings.Contains(title, "owned") {
		t.Errorf("a name ran: the title is %q", title)
	}
}

func TestPageCopiesTheCommandThatMends(t *testing.T) {
	p := openTab(t, serve(t, storyOf("halted")).url(), desk)
	p.untilShows(".attention code", "milena skip")
	shown := p.text(".attention .command code")
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		command(p, browser.SetPermission, browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID})
	}
	command(p, cdppage.BringToFront, cdp.Empty{})
	p.do(chromedp.Click(chromedp.CSS(".attention .command button")))
	p.untilShows(".attention", "Copied")
	if copied := eval[string](p, "navigator.clipboard.readText()"); copied != shown || !strings.HasPrefix(copied, "milena skip") {
		t.Errorf("the clipboard has %q, and the page shows %q", copied, shown)
	}
}

func TestPagePlotsZoomTogether(t *testing.T) {
	p := openTab(t, serve(t, storyOf("healthy")).url(), desk)
	p.until(`document.querySelectorAll(".u-over").length === 4`)
	at := eval[[]float64](p, `(r => [r.x, r.y, r.width])(document.querySelector(".u-over").getBoundingClientRect())`)
	x, y, width := at[0], at[1]+20, at[2]
	mouse := func(kind input.DispatchMouseEventType, x float64) {
		p.do(chromedp.MouseEvent(kind, x, y, chromedp.ButtonLeft))
	}
	mouse(chromedp.MousePressed, x+width/4)
	mouse(chromedp.MouseMoved, x+width/3)
	mouse(chromedp.MouseMoved, x+width/2)
	mouse(chromedp.MouseReleased, x+width/2)
	p.untilShows(".range", "Back to now")
	times := strings.Fields(p.text(".range .hint"))
	from, err := time.Parse(time.TimeOnly, times[len(times)-6])
	if err != nil {
		t.Fatal(err)
	}
	to, err := time.Parse(time.TimeOnly, times[len(times)-4])
	if err != nil {
		t.Fatal(err)
	}
	if span := (to.Sub(from) + 24*time.Hour) % (24 * time.Hour); span < 14*time.Minute || span > 16*time.Minute {
		t.Errorf("a quarter of an hour's plot is %s", span)
	}
	p.do(chromedp.MouseClickXY(x+width/2, y, func(e *input.DispatchMouseEventParams) { e.ClickCount = 2 }))
	p.untilShows(".range", "double-click to go back")
}

func TestPageWorksByKeyboard(t *testing.T) {
	p := openTab(t, serve(t, storyOf("healthy")).url(), desk)
	p.untilShows(".tabs", "Topics")
	reach := func(text string) {
		t.Helper()
		for range 40 {
			p.do(chromedp.KeyEvent(kb.Tab))
			if strings.Contains(eval[string](p, `document.activeElement.innerText ?? ""`), text) {
				return
			}
		}
		t.Fatalf("the key Tab does not reach %q", text)
	}
	reach("Skip to the content")
	p.do(chromedp.KeyEvent(kb.Enter))
	reach("Partitions")
	if outline := eval[string](p, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("the focus cannot be seen")
	}
	p.do(chromedp.KeyEvent(kb.Enter))
	p.untilShows(".rows-tools", "24 partitions")
	eval[bool](p, `document.querySelector(".rows-box").focus() || true`)
	p.do(chromedp.KeyEvent(kb.End))
	p.until(`document.querySelector(".rows-box").scrollTop > 0`)
}

// fill types into the field of a name in the open dialog.
func (p *tab) fill(name, text string) {
	p.t.Helper()
	field := fmt.Sprintf("dialog[open] input[name=%s]", name)
	p.until(fmt.Sprintf("document.querySelector(%q)", field))
	p.do(chromedp.SetValue(chromedp.CSS(field), text))
}
