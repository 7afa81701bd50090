package page_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageLook writes pictures of each story on each screen to the directory MILENA_SHOTS, for people to look at. Without it, it makes them all the
// same: a screen on which the page does not fit fails.
func TestPageLook(t *testing.T) {
	dir := os.Getenv("MILENA_SHOTS")
	for _, on := range []screen{desk, dark, {"phone", 390, 844, false}, {"wall", 2560, 1440, true}} {
		for _, s := range stories() {
			t.Run(on.name+"/"+s.name, func(t *testing.T) {
				tab := ""
				if s.partitions > 1000 {
					tab = "#tab=partitions"
				}
				p := openTab(t, serve(t, s).url()+tab, on)
				p.untilShows(".answer", "Is it copying?")
				if tab == "" {
					p.until(`document.querySelectorAll(".u-wrap canvas").length === 4`)
				} else {
					p.untilShows(".rows-box td", "shop.")
				}
				if s.name == "healthy" || s.name == "10000-partitions" {
					p.untilShows(".answer", "MB/s")
				}
				if wide := eval[int](p, "document.documentElement.scrollWidth"); int64(wide) > on.width {
					t.Errorf("the page is %d pixels wide on a screen of %d", wide, on.width)
				}
				if dir != "" {
					shoot(p, filepath.Join(dir, on.name+"-"+s.name+".png"))
				}
			})
		}
	}
}

// shoot writes a picture of what is in sight.
func shoot(p *tab, path string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
