package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/crypto/bcrypt"
)

// tab is a page in a headless browser. Package page has the tests of what the page shows; here it is in front of a real milena.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps a tab in a context

	mu       sync.Mutex
	problems []string // what the console has of errors, but of refusals
}

// openTab opens a URL in a browser of its own. It skips the test if there is none, unless MILENA_BROWSER is require, and always if that is skip.
func openTab(t *testing.T, url string) *tab {
	t.Helper()
	wish := os.Getenv("MILENA_BROWSER")
	if wish == "skip" {
		t.Skip("MILENA_BROWSER is skip")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	switch {
	case path == "" && wish == "require":
		t.Fatal("there is no chromium, chromium-browser or google-chrome in PATH")
	case path == "":
		t.Skip("there is no chromium, chromium-browser or google-chrome in PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not start for root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	go p.hear()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *tab) hear() {
	for m, err := range chromedp.Console(p.ctx) {
		if err != nil {
			return // the tab is closed
		}
		if text := m.String(); (m.Type == chromedp.ConsoleError || m.IsException()) && !strings.Contains(text, "401") && !strings.Contains(text, "net::ERR") {
			p.mu.Lock()
			p.problems = append(p.problems, text)
			p.mu.Unlock()
		}
	}
}

// eval returns the value of an expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// untilShows waits until an element shows a text.
func (p *tab) untilShows(selector, text string) {
	p.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))`, selector, text)
	for end := time.Now().Add(patience); !eval[bool](p, find); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s does not show %q; the page shows:\n%s", selector, text, eval[string](p, "document.body.innerText"))
		}
	}
}

// press clicks a button or link by its text, one of an open dialog if there is a dialog.
func (p *tab) press(text string) {
	p.t.Helper()
	p.untilShows("button, a", text)
	eval[bool](p, fmt.Sprintf(`[...(document.querySelector("dialog[open]") ?? document).querySelectorAll("button, a")].find(e => e.innerText.trim() === %q)?.click() || true`, text))
}

// fill types into a field of the open dialog.
func (p *tab) fill(field, text string) {
	p.t.Helper()
	find := fmt.Sprintf("dialog[open] input[name=%s]", field)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.SetValue(chromedp.CSS(find), text)); err != nil {
		p.t.Fatalf("%s: %v", find, err)
	}
}

func (p *tab) signIn(password string) {
	p.t.Helper()
	p.press("Sign in")
	p.untilShows("dialog", "Password or token")
	p.fill("user", "bob")
	p.fill("secret", password)
	p.press("Sign in")
}

// Somebody signs in on the page of a real milena, pauses its flow, sees it paused, resumes it, reads who did that, and signs out. A session does not outlive
// the process that began it, and the page notices both.
func TestPageFromSignInToSignOut(t *testing.T) {
	brokers, listen := startClusters(t), freeAddress(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(bobPassword), 10)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, fmt.Sprintf(`
clusters: {a: {brokers: [%q]}, b: {brokers: [%q]}}
flows: [{source: a, target: b, shards: 1}]
http: {listen: %q, open: [probes], users: {bob: %s}}
`, brokers[0], brokers[1], listen, hash))
	s := serve(t, path)
	t.Cleanup(func() { s.cancel(); s.exit(t) }) // of the newest one
	within(t, "it is ready", func() bool { return get(t, s.url+"/readyz") == http.StatusOK })

	p := openTab(t, s.url)
	p.untilShows("main", "Sign in to see the status")
	p.signIn("wrong horse")
	p.untilShows("dialog [role=alert]", "the user or the password is wrong")
	p.fill("secret", bobPassword)
	p.press("Sign in")
	p.untilShows(".answer", "Copying")

	p.press("Pause")
	p.untilShows("dialog", "Pause flow a-b?")
	p.fill("reason", "ticket 17")
	p.press("Pause")
	p.untilShows("dialog", "done")
	p.press("Close")
	p.untilShows(".answer", "Paused")
	p.untilShows(".attention", "ticket 17")
	p.untilShows(".attention code", "milena resume -c FILE")

	p.press("Resume")
	p.untilShows("dialog", "Resume flow a-b?")
	p.fill("reason", "ticket 17 is done")
	p.press("Resume")
	p.untilShows("dialog", "done")
	p.press("Close")
	p.untilShows(".answer", "Copying")
	p.press("Timeline")
	p.untilShows(".timeline", "bob: pause flow")
	p.untilShows(".timeline", "ticket 17 is done")

	p.press("Sign out bob")
	p.untilShows("main", "Sign in to see the status")
	p.untilShows(".line", "not signed in")
	if text := eval[string](p, "document.title + document.body.innerText"); strings.Contains(text, "a-b") || strings.Contains(text, "ticket") {
		t.Errorf("after the sign-out the page shows\n%s", text)
	}

	p.signIn(bobPassword)
	p.untilShows(".line", "live")
	s.cancel()
	s.exit(t)
	before := s.stderr.String()
	s = serve(t, path)
	p.untilShows("main", "Sign in to see the status")
	p.signIn(bobPassword)
	p.untilShows(".line", "live")

	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		t.Errorf("the browser says %s", problem)
	}
	if log := before + s.stderr.String(); strings.Contains(log, bobPassword) || strings.Contains(log, "wrong horse") || strings.Contains(log, string(hash)) {
		t.Errorf("a password is in the log:\n%s", log)
	}
}
