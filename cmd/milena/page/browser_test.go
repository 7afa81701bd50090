package page_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// The browser tests drive a headless Chromium. They are skipped without one, unless MILENA_BROWSER is require.
//
//	MILENA_BROWSER=require   fail without a Chromium
//	MILENA_BROWSER=skip      skip also with one
//	MILENA_SHOTS=dir         write pictures of the page to this directory
//	MILENA_LONG=1            also run the ten minutes of TestPageStaysSmall

// patience bounds each wait for the page. It is long because the machine may be busy; nothing waits that long unless it fails.
const patience = 20 * time.Second

// chromium starts the one browser of all tests, at the first that needs it.
var chromium = sync.OnceValues(func() (context.Context, error) {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("no chromium, chromium-browser or google-chrome in PATH: %w", exec.ErrNotFound)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("enable-precise-memory-info", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not start for root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stopChromium = func() { cancel(); stop() }
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return ctx, nil
})

var stopChromium = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopChromium()
	os.Exit(code)
}

// screen is what a page is shown on.
type screen struct {
	name          string
	width, height int64
	dark          bool
}

var (
	desk = screen{"desk", 1280, 860, false}
	dark = screen{"dark", 1280, 860, true}
)

// tab is a page in the browser. Each test has its own, without the cookies and the storage of others.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps a tab in a context

	mu       sync.Mutex
	problems []string // what the console has of errors
	may      []string // texts that such errors may contain
}

// openTab opens a URL. When the test ends, it fails if the console of the page had an error.
func openTab(t *testing.T, url string, on screen) *tab {
	t.Helper()
	if os.Getenv("MILENA_BROWSER") == "skip" {
		t.Skip("MILENA_BROWSER is skip")
	}
	root, err := chromium()
	switch {
	case err != nil && os.Getenv("MILENA_BROWSER") == "require":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	ctx, cancel := chromedp.NewContext(root, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx}
	go p.hear(chromedp.Console(ctx))
	scheme := "light"
	if on.dark {
		scheme = "dark"
	}
	command(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	p.do(chromedp.EmulateViewport(on.width, on.height), chromedp.Navigate(url))
	t.Cleanup(p.checkConsole)
	return p
}

// command sends a command of the DevTools protocol.
func command[P, R any](p *tab, c cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, c, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// hear keeps what the console has of warnings and errors: of scripts, of requests that fail, and of what the page's policy forbids.
func (p *tab) hear(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range console {
		if err != nil {
			return // the tab is closed
		}
		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
			p.mu.Lock()
			p.problems = append(p.problems, m.String()+" "+m.URL)
			p.mu.Unlock()
		}
	}
}

// expect names errors that are part of the story.
func (p *tab) expect(texts ...string) { p.may = append(p.may, texts...) }

func (p *tab) checkConsole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		if !slices.ContainsFunc(p.may, func(text string) bool { return strings.Contains(problem, text) }) {
			p.t.Errorf("the browser says %s", problem)
		}
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%v; the page shows:\n%s", err, p.text("body"))
	}
}

// eval returns the value of an expression, which may be a promise.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// text is what an element shows, "" without one.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// until waits for an expression to become true. It asks from here, because the page forbids code that is made of text.
func (p *tab) until(expression string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !eval[bool](p, "!!("+expression+")"); {
		if time.Now().After(end) {
			p.t.Fatalf("waited for %s; the page shows:\n%s", expression, p.text("body"))
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// untilShows waits until an element shows a text.
func (p *tab) untilShows(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))`, selector, text))
}

// press clicks the button or link with a text or a label. One of an open dialog comes first, as a user can reach no other.
func (p *tab) press(text string) {
	p.t.Helper()
	find := fmt.Sprintf(`[...(document.querySelector("dialog[open]") ?? document).querySelectorAll("button, a")].find(e => e.innerText.trim() === %q || e.getAttribute("aria-label") === %q)`, text, text)
	p.until(find)
	eval[bool](p, find+".click() || true")
}
